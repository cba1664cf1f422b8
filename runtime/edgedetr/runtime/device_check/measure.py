"""Run one engine on real frames: what it computes in, what it finds, how long it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgedetr.runtime.backend_lookup import backend
from edgedetr.runtime.cuda.engine_layers import EngineLayers, engine_layers
from edgedetr.runtime.cuda.engine_session import check_fit, open_engine
from edgedetr.runtime.cuda.execution import read_engine
from edgedetr.runtime.cuda.preflight import builder_of, runs_host_code
from edgedetr.runtime.cuda.trt_log import TrtLog
from edgedetr.runtime.detector import Detector
from edgedetr.runtime.device_check.agreement import MARGIN, THRESHOLD, Agreement, agreement
from edgedetr.runtime.errors import BackendError
from edgedetr.runtime.manifest import read_manifest
from edgedetr.runtime.pacing import constant_stream, old_objects_kept, single_stream
from edgedetr.runtime.timing import Latency, latency_from_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgedetr.runtime.cuda.context import PrimaryContext
    from edgedetr.runtime.device_check.engines import Engine
    from edgedetr.runtime.session import Session
    from edgedetr.runtime.spec import ModelSpec
    from edgedetr.runtime.types import Detections, Frame

_WARM_UP_FRAMES = 20


@dataclass(frozen=True)
class Pace:
    """How much is timed.

    Attributes:
        frames: Frames one after another, and as many at the rate.
        rate_hz: Frames per second.
    """

    frames: int
    rate_hz: float


@dataclass(frozen=True)
class EngineCheck:
    """What an engine does on this device.

    Attributes:
        runs_on: Library, version and device.
        layers: What they compute in; None where the inspector lists no types.
        cuda_graph: Whether a frame is one launch of a CUDA graph whose outputs were checked.
        frame_kernel: Whether frames are preprocessed on the GPU, to the bits of the CPU.
        memory_mib: Memory of the device that it took; None in a rehearsal.
        unpaced: Latency of frames one after another, from uint8 frame to detections.
        paced: Latency at the rate, from the time at which a frame was due.
        misses: Frames at the rate that were not done within one period.
        agreement: With the ONNX file that it was built from, in ONNX Runtime; None without it.
    """

    runs_on: str
    layers: EngineLayers | None
    cuda_graph: bool
    frame_kernel: bool
    memory_mib: float | None
    unpaced: Latency
    paced: Latency
    misses: int
    agreement: Agreement | None


def check_engine_runs(
    engine: Engine, frames: Sequence[Frame], pace: Pace, on_frame: Callable[[], object]
) -> EngineCheck:
    """Open an engine as a vehicle does and run it.

    Args:
        engine: The engine; its manifest lies beside it.
        frames: Real frames; they are used again and again.
        pace: How much to time.
        on_frame: Called after every timed frame.

    Raises:
        ArtifactError: If the engine is damaged, or for another library, version or GPU.
        BackendError: If the GPU or the library fails.
        UsageError: If a library is not installed.
    """
    path = engine.path
    manifest = read_manifest(path)
    library = builder_of(manifest, path)
    trt, drv, context = check_fit(manifest, path, library)
    host_code = runs_host_code(manifest, library)
    with context:
        layers = engine_layers(trt, TrtLog(trt).logger, read_engine(path), host_code=host_code)
    free_before = _free_bytes(drv, context)
    session = open_engine(path, None, library)
    with Detector(session, THRESHOLD - MARGIN) as detector, old_objects_kept():
        taken = free_before - _free_bytes(drv, context)
        found, unpaced_ns, paced_ns = _timed(detector, frames, pace, on_frame)
        has_graph, has_kernel = session.has_graph, session.feed is not None
    wanted = _reference(engine.source, manifest.spec, frames) if engine.source else None
    return EngineCheck(
        runs_on=session.runs_on,
        layers=layers,
        cuda_graph=has_graph,
        frame_kernel=has_kernel,
        memory_mib=round(taken / 2**20, 2),
        unpaced=latency_from_samples(unpaced_ns),
        paced=latency_from_samples(paced_ns),
        misses=_late(paced_ns, pace),
        agreement=None if wanted is None else agreement(wanted, found),
    )


def rehearse(
    path: Path, frames: Sequence[Frame], pace: Pace, on_frame: Callable[[], object]
) -> EngineCheck:
    """Run an ONNX file in ONNX Runtime on the CPU as an engine would run on the device.

    Raises:
        ArtifactError: If the file is damaged or holds no spec.
    """
    session: Session = backend("onnxruntime").open_session(path, None)
    runs_on, spec = session.runs_on, session.spec
    with Detector(session, THRESHOLD - MARGIN) as detector, old_objects_kept():
        found, unpaced_ns, paced_ns = _timed(detector, frames, pace, on_frame)
    return EngineCheck(
        runs_on=runs_on,
        layers=None,
        cuda_graph=False,
        frame_kernel=False,
        memory_mib=None,
        unpaced=latency_from_samples(unpaced_ns),
        paced=latency_from_samples(paced_ns),
        misses=_late(paced_ns, pace),
        agreement=agreement(_reference(path, spec, frames), found),
    )


def _timed(
    detector: Detector, frames: Sequence[Frame], pace: Pace, on_frame: Callable[[], object]
) -> tuple[list[Detections], list[int], list[int]]:
    """Return what was found in each frame; durations in ns one after another, and at the rate."""
    found: dict[int, Detections] = {}

    def run(index: int) -> None:
        place = index % len(frames)
        found[place] = detector.detect(frames[place])

    single_stream(run, max(_WARM_UP_FRAMES, len(frames)))  # each frame once at least
    unpaced_ns = single_stream(run, pace.frames, on_frame=on_frame)
    paced_ns = constant_stream(run, pace.frames, pace.rate_hz, on_frame=on_frame)
    return [found[i] for i in range(len(frames))], unpaced_ns, paced_ns


def _late(paced_ns: Sequence[int], pace: Pace) -> int:
    return sum(latency_ns > 1e9 / pace.rate_hz for latency_ns in paced_ns)


def _reference(path: Path, spec: ModelSpec, frames: Sequence[Frame]) -> list[Detections]:
    """Return what the ONNX file finds in ONNX Runtime on the CPU."""
    session: Session = backend("onnxruntime").open_session(path, spec)
    with Detector(session, THRESHOLD - MARGIN) as detector:
        return [detector.detect(frame) for frame in frames]


def _free_bytes(drv: Any, context: PrimaryContext) -> int:  # noqa: ANN401
    """Return how much memory of the device is free; on a Jetson that is the machine's."""
    try:
        with context:
            free, _ = drv.mem_get_info()
    except drv.Error as error:
        raise BackendError(f"the GPU does not say how much memory is free: {error}") from error
    return int(free)
