"""Measure the latency of a frame, and the part of it outside the network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from edgedetr.runtime.backends.onnxruntime import open_session
from edgedetr.runtime.detector import BACKEND, Detector
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.files import sha256
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.inference.opening import open_model
from edgedetr.runtime.machine import machine_facts, package_versions
from edgedetr.runtime.package.format import MANIFEST
from edgedetr.runtime.timing import Latency, latency_from_samples
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from edgedetr.runtime.session import Session

_WARM_UP_FRAMES = 5


@dataclass(frozen=True)
class LatencyReport:
    """One measurement of one model on one machine.

    Attributes:
        model: File name.
        sha256: Hash of the file; of a package in a folder, that of its manifest.
        backend: What ran it: library, version, device.
        input_hw: Height and width of the network's input, in pixels.
        threads: Threads that the network may use; None for one per core.
        floor_ms: Median of the bare session: the network on an input that lies ready.
        overhead_ratio: Median end to end over ``floor_ms``.
        model_only: The bare session.
        end_to_end: From uint8 frame to detections.
        preprocess_ms: Median of making the input, inside ``end_to_end``.
        postprocess_ms: Median of decoding the outputs, inside ``end_to_end``.
        command: The command line.
        machine: What it ran on.
        versions: ``name==version`` of the packages.
    """

    model: str
    sha256: str
    backend: str
    input_hw: tuple[int, int]
    threads: int | None
    floor_ms: float
    overhead_ratio: float
    model_only: Latency
    end_to_end: Latency
    preprocess_ms: float
    postprocess_ms: float
    command: str
    machine: dict[str, str | float]
    versions: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Samples:
    """Durations in nanoseconds, one of each kind per frame."""

    model_only: list[int]
    end_to_end: list[int]
    preprocess: list[int]
    postprocess: list[int]


def measure_latency(
    model: str | os.PathLike[str],
    images: str | os.PathLike[str],
    frames: int,
    threads: int | None = None,
    *,
    opening: Mapping[str, Any] | None = None,
    command: str = "",
) -> LatencyReport:
    """Time the bare session and the whole detector alternately, on every frame.

    Alternating spreads the other load of the machine over both; which of the two goes first
    changes from frame to frame. Images are read between the measurements.

    Args:
        model: An ONNX file, an engine or a package.
        images: Folder of images; they are used again when there are fewer than ``frames``.
        frames: Frames to time.
        threads: Threads of the network, an ONNX file in ONNX Runtime; one per core when None.
        opening: How to open the model, keywords of `Detector.open`.
        command: The command line to record.

    Raises:
        ArtifactError: If the model cannot be loaded.
        DataError: If there is no image or one cannot be read.
        UsageError: If ``threads`` is given for a model that ONNX Runtime does not run.
    """
    model = Path(model)
    images = Path(images)
    paths = list_images(images)
    session = _opened(model, threads, dict(opening or {}))
    with Detector(session) as detector:
        chosen = islice(cycle(paths), _WARM_UP_FRAMES + frames)
        bar = tqdm(chosen, "latency", _WARM_UP_FRAMES + frames, unit="frame", disable=None)
        samples = _interleaved(session, detector, (Frame(read_image(path)) for path in bar))
    floor = latency_from_samples(samples.model_only)
    whole = latency_from_samples(samples.end_to_end)
    return LatencyReport(
        model=model.name,
        sha256=sha256(model / MANIFEST if model.is_dir() else model),
        backend=session.runs_on,
        input_hw=session.spec.input_hw,
        threads=threads,
        floor_ms=floor.p50_ms,
        overhead_ratio=whole.p50_ms / floor.p50_ms,
        model_only=floor,
        end_to_end=whole,
        preprocess_ms=latency_from_samples(samples.preprocess).p50_ms,
        postprocess_ms=latency_from_samples(samples.postprocess).p50_ms,
        command=command,
        machine=machine_facts(),
        versions=package_versions(),
    )


def _opened(model: Path, threads: int | None, opening: dict[str, Any]) -> Session:
    backend = opening.pop("backend", BACKEND)
    if threads is None:
        return open_model(model, backend, **opening)
    if model.suffix != ".onnx" or backend not in (BACKEND, "onnxruntime"):
        raise UsageError(
            f"{model}: --threads works only for an ONNX file in ONNX Runtime; leave it out"
        )
    return open_session(model, opening.get("spec"), threads=threads)


def _interleaved(session: Session, detector: Detector, frames: Iterable[Frame]) -> _Samples:
    samples = _Samples([], [], [], [])
    for index, frame in enumerate(frames):
        if index == _WARM_UP_FRAMES:
            samples = _Samples([], [], [], [])
        if index % 2:
            _time_session(session, samples)
            _time_detector(detector, frame, samples)
        else:
            _time_detector(detector, frame, samples)
            _time_session(session, samples)
    return samples


def _time_session(session: Session, samples: _Samples) -> None:
    start_ns = perf_counter_ns()
    session.infer()
    samples.model_only.append(perf_counter_ns() - start_ns)


def _time_detector(detector: Detector, frame: Frame, samples: _Samples) -> None:
    before = detector.times
    start_ns = perf_counter_ns()
    detector.detect(frame)
    samples.end_to_end.append(perf_counter_ns() - start_ns)
    after = detector.times
    samples.preprocess.append(after.preprocess_ns - before.preprocess_ns)
    samples.postprocess.append(after.postprocess_ns - before.postprocess_ns)
