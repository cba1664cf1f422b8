"""Time a detector by the protocol of MLPerf Automotive, and check what it found meanwhile.

Single stream: the next frame as soon as the last is done. Constant stream: frames come at a rate,
and each is late that is not done within one period of it. The results are unofficial: model and
data are the user's, and neither is LoadGen itself in between nor was anything reviewed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from edgedetr.bench.loadgen import StreamLatency, stream_latency
from edgedetr.export.verify.limits import INT8_LIMITS
from edgedetr.export.verify.matching import MARGIN, Rule, match
from edgedetr.runtime.detector import Detector
from edgedetr.runtime.files import sha256
from edgedetr.runtime.images import list_images, read_frames
from edgedetr.runtime.machine import machine_facts, package_versions
from edgedetr.runtime.pacing import constant_stream, old_objects_kept, single_stream
from edgedetr.runtime.package.format import MANIFEST

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from edgedetr.runtime.types import Detections, Frame

FORMAT = "edgedetr-automotive-1"
UNOFFICIAL = "unofficial: not run by LoadGen, and not reviewed by MLCommons"
WANTED_ACCURACY = 0.999
"""Share of the reference's accuracy that MLPerf asks for in its strictest category."""
VERDICT_RATE_HZ = 15.0

_WARM_UP_FRAMES = 20


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        single_stream_frames: Frames one after another.
        constant_stream_frames: Frames at each rate.
        rates_hz: The rates, frames per second.
    """

    single_stream_frames: int
    constant_stream_frames: int
    rates_hz: tuple[float, ...] = (VERDICT_RATE_HZ, 10.0, 30.0)

    @property
    def frames(self) -> int:
        """All frames together."""
        return self.single_stream_frames + self.constant_stream_frames * len(self.rates_hz)


FULL = Plan(6_636, 100_000)
"""MLPerf Automotive's, about six hours."""
SHORT = Plan(1_500, 1_500)
"""About six minutes; p99.9 is then the second longest latency."""


@dataclass(frozen=True)
class ConstantStream:
    """Frames at one rate.

    Attributes:
        rate_hz: Frames per second.
        deadline_ms: One period of the rate.
        misses: Frames that were done later than that after they were due.
        latency: From the time at which a frame was due to its detections.
    """

    rate_hz: float
    deadline_ms: float
    misses: int
    latency: StreamLatency

    @property
    def tail_ratio(self) -> float:
        """How many times p50 is p99.9."""
        return self.latency.p999_ms / self.latency.p50_ms


@dataclass(frozen=True)
class Accuracy:
    """How many of the reference's detections were found, and no others, while time was measured.

    Attributes:
        reference: File name of the reference.
        frames: Frames that were compared.
        detections: Detections of either that count, a pair once.
        lost: Of these, those without a match within the limits of INT8, see `INT8_LIMITS`.
    """

    reference: str
    frames: int
    detections: int
    lost: int

    @property
    def share(self) -> float:
        """The share of detections that were kept; 0 where there was none to compare."""
        return 1 - self.lost / self.detections if self.detections else 0.0

    @property
    def holds(self) -> bool:
        """Whether the share is high enough."""
        return self.share >= WANTED_ACCURACY


@dataclass(frozen=True)
class AutomotiveReport:
    """One run of the protocol.

    Attributes:
        model: File name.
        sha256: Hash of the file; of a package in a folder, that of its manifest.
        backend: What ran it: library, version, device.
        input_hw: Height and width of the network's input, in pixels.
        plan: How much was measured.
        single_stream: Latency of frames one after another.
        constant_streams: The rates, in the order of the plan.
        accuracy: Of the detections in the last stream.
        command: The command line.
        machine: What it ran on.
        versions: ``name==version`` of the packages.
    """

    model: str
    sha256: str
    backend: str
    input_hw: tuple[int, int]
    plan: Plan
    single_stream: StreamLatency
    constant_streams: tuple[ConstantStream, ...]
    accuracy: Accuracy
    command: str
    machine: dict[str, str | float]
    versions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = asdict(self)
        for stream, place in zip(self.constant_streams, values["constant_streams"], strict=True):
            place["tail_ratio"] = stream.tail_ratio
        accuracy = {"share": self.accuracy.share, "wanted": WANTED_ACCURACY}
        values["accuracy"] |= accuracy | {"holds": self.accuracy.holds}
        return {"format": FORMAT, "status": UNOFFICIAL, **values}

    def describe(self) -> str:
        """Return the verdict in one line."""
        at = {stream.rate_hz: stream for stream in self.constant_streams}[VERDICT_RATE_HZ]
        return (
            f"{self.model}: {at.misses} of {at.latency.samples} frames missed {at.rate_hz:g} Hz, "
            f"p99.9 {at.latency.p999_ms:.1f} ms is {at.tail_ratio:.2f} times p50; accuracy "
            f"{100 * self.accuracy.share:.2f} % of the reference; unofficial"
        )


def measure_automotive(
    model: str | os.PathLike[str],
    images: str | os.PathLike[str],
    plan: Plan = FULL,
    *,
    reference: str | os.PathLike[str] | None = None,
    opening: Mapping[str, Any] | None = None,
    command: str = "",
) -> AutomotiveReport:
    """Run the protocol.

    As in `edgedetr run`, threads that wait sleep, and old objects are not garbage. The first
    images, see `read_frames`, are held in memory and used again and again.

    Args:
        model: An ONNX file, an engine or a package.
        images: Folder of images.
        plan: How much to measure.
        reference: ONNX file whose detections in ONNX Runtime are the reference; ``model`` itself,
            or the first ONNX file of the package, when None.
        opening: How to open the model, keywords of `Detector.open`.
        command: The command line to record.

    Raises:
        ArtifactError: If the model or the reference cannot be loaded.
        DataError: If there is no image or one cannot be read.
    """
    model = Path(model)
    how: dict[str, Any] = {"threshold": Rule().threshold - MARGIN, **(opening or {})}
    of_reference = how | {"backend": "onnxruntime"}
    if reference is not None:  # a file has no signature and no counter
        of_reference = {k: v for k, v in of_reference.items() if k not in {"public_key", "state"}}
    reference = Path(model if reference is None else reference)
    frames = read_frames(list_images(images))
    wanted = _answers(reference, frames, of_reference)
    with Detector.open(model, steady=True, **how) as detector, old_objects_kept():
        bare_ns, streams, found = _timed(detector, frames, plan)
        spec, runs_on = detector.spec, detector.backend
    accuracy = _accuracy(reference.name, wanted, found, spec.max_detections)
    return AutomotiveReport(
        model=model.name,
        sha256=sha256(model / MANIFEST if model.is_dir() else model),
        backend=runs_on,
        input_hw=spec.input_hw,
        plan=plan,
        single_stream=stream_latency(bare_ns),
        constant_streams=streams,
        accuracy=accuracy,
        command=command,
        machine=machine_facts(runs_on),
        versions=package_versions(),
    )


def _answers(path: Path, frames: Sequence[Frame], how: dict[str, Any]) -> list[Detections]:
    with Detector.open(path, **how) as detector:
        return [detector.detect(frame) for frame in frames]


def _timed(
    detector: Detector, frames: Sequence[Frame], plan: Plan
) -> tuple[list[int], tuple[ConstantStream, ...], dict[int, Detections]]:
    """Run all streams; return the first's latencies, the others, and what was found last."""
    found: dict[int, Detections] = {}

    def run(index: int) -> None:
        place = index % len(frames)
        found[place] = detector.detect(frames[place])

    single_stream(run, _WARM_UP_FRAMES)
    with tqdm(total=plan.frames, desc="automotive", unit="frame", disable=None) as bar:
        bare_ns = single_stream(run, plan.single_stream_frames, on_frame=bar.update)
        streams = []
        for rate_hz in plan.rates_hz:
            count = plan.constant_stream_frames
            latencies_ns = constant_stream(run, count, rate_hz, on_frame=bar.update)
            streams.append(_stream(rate_hz, latencies_ns))
    return bare_ns, tuple(streams), found


def _stream(rate_hz: float, latencies_ns: Sequence[int]) -> ConstantStream:
    deadline_ns = 1e9 / rate_hz
    misses = sum(latency_ns > deadline_ns for latency_ns in latencies_ns)
    return ConstantStream(rate_hz, deadline_ns / 1e6, misses, stream_latency(latencies_ns))


def _accuracy(
    reference: str,
    wanted: Sequence[Detections],
    found: Mapping[int, Detections],
    max_detections: int,
) -> Accuracy:
    pairs = [match(wanted[i], found[i], Rule(), max_detections) for i in sorted(found)]
    compared, lost = sum(p.compared for p in pairs), sum(p.lost(INT8_LIMITS) for p in pairs)
    return Accuracy(reference, len(pairs), compared, lost)
