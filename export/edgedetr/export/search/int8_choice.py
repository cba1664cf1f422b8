"""Choose the INT8 layers of a model by measuring on frames, and record the measurements."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedetr.calib.frames import choose_frames
from edgedetr.calib.stats import read_stats
from edgedetr.distill.data import training_images
from edgedetr.export.search.coverage_record import CoverageRecord, coverage_path
from edgedetr.export.search.held_out import check_enough, held_out, unlike_ranges
from edgedetr.export.search.int8_coverage import WORTH, Coverage, find_coverage
from edgedetr.export.search.sensitivity import Sensitivity, patterns
from edgedetr.export.search.speed import Timer, library_of
from edgedetr.export.search.trial import (
    NothingToCompareError,
    Scenes,
    Trial,
    has_validation,
    labelled_scenes,
)
from edgedetr.export.transforms.quantize import Rest, quantize, with_rest
from edgedetr.export.verify.figures import counted
from edgedetr.export.verify.limits import INT8_LIMITS
from edgedetr.export.verify.lost_share import FIRST_LOOK
from edgedetr.graph.checksum import model_sha256
from edgedetr.graph.lint import refuse_broken
from edgedetr.graph.model_file import load_onnx
from edgedetr.runtime.errors import DataError, GateError, UsageError
from edgedetr.runtime.images import list_images
from edgedetr.runtime.manifest import manifest_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from edgedetr.calib.stats import CalibrationStats
    from edgedetr.calib.targets import Target
    from edgedetr.export.verify.limits import Limits


LEAST_FOR_AP = 2
"""Frames without which nothing is known of how AP differs from some to others."""


@dataclass(frozen=True)
class Request:
    """Frames and limit of a search.

    Attributes:
        data: A data set of any format. A drop of AP is measured on its validation split, lost
            detections on frames of its training split that calibration did not use; where there are
            no splits, both on such frames of all. None for a ``folder``.
        frames: How many frames at most, evenly spread.
        max_ap_drop: The limit, in points of AP from 0 to 100; None for one of lost detections.
        rest: The precision of the rest.
        images: RGB images, uint8 (H, W, 3), on which ``fp16`` measures ranges; synthetic when None.
        kind: The format of the data set; None recognises it.
        target: What the INT8 model is for.
        folder: Images, of which those that calibration did not use are measured.
        limits: When a detection is lost, and how many may be; None for the gate of
            ``edgedetr verify``.
        min_speedup: How many times faster than the float models INT8 shall be in what runs it; None
            where time does not matter.
    """

    data: Path | None
    frames: int
    max_ap_drop: float | None = None
    rest: Rest = "fp32"
    images: Sequence[NDArray[np.uint8]] | None = None
    kind: str | None = None
    target: Target = "tensorrt"
    folder: Path | None = None
    limits: Limits | None = None
    min_speedup: float | None = None

    @property
    def is_gate(self) -> bool:
        """Whether the limits are those of ``edgedetr verify``."""
        return self.max_ap_drop is None and self.limits is None


@dataclass(frozen=True)
class Chosen:
    """The layers to quantize.

    Attributes:
        include: For `edgedetr.export.to_qdq.export_qdq`.
        exclude: Likewise.
        lines: The measurements as text.
    """

    include: str = ""
    exclude: str = ""
    lines: tuple[str, ...] = ()


def choose_coverage(
    path: Path, stats_path: Path, output: Path, request: Request, command: str = ""
) -> Chosen:
    """Search, and write the measurements to ``OUTPUT.coverage.json``.

    Where the default layers pass the gate, there is no search, and no such file is left.

    Args:
        path: A float32 ONNX model.
        stats_path: What ``edgedetr calib collect`` wrote for exactly this model.
        output: The INT8 model that will be written; an older one is removed where INT8 is not worth
            it.
        request: Frames and limit.
        command: The command, for the file.

    Raises:
        ArtifactError: If a file is damaged, or they do not belong together.
        DataError: If the frames are missing, damaged or too few for the limits, or the limit is a
            drop of AP and the model has no detection in them.
        GateError: If INT8 is not worth it, or TensorRT would break the graph.
        UsageError: If there is nothing here in which a speed could be measured.
    """
    model = load_onnx(path)
    stats = read_stats(stats_path)
    stats.check_model(path)
    refuse_broken(model, path.name)
    record = _Record(path, output, command)
    try:
        scenes = _scenes(request, stats)
        with _timer(model, stats, request) as timer, Trial(model, stats.spec, scenes) as trial:
            default = _default(model, stats, trial, request, timer)
            if default is not None:
                coverage_path(output).unlink(missing_ok=True)
                return default
            _check_enough(trial, request)
            found = find_coverage(
                model,
                stats,
                trial,
                request.max_ap_drop,
                request.rest,
                request.images,
                request.target,
                request.limits,
                timer,
            )
    except NothingToCompareError as error:
        if not request.is_gate:
            raise
        record.write_nothing(str(error))
        raise GateError(f"{path} was not quantized: {error}") from error
    unlike = [] if request.is_gate else unlike_ranges(model, stats, scenes.images)
    return record.write(found, model, tuple(unlike))


def check_speed(
    path: Path, stats_path: Path, request: Request, include: str = "", exclude: str = ""
) -> str:
    """Measure whether INT8 pays where nothing is searched for; return a line with the speed.

    Args:
        path: A float32 ONNX model.
        stats_path: What ``edgedetr calib collect`` wrote for exactly this model.
        request: Names target and speed.
        include: See `edgedetr.export.transforms.quantize.quantize`.
        exclude: Likewise.

    Raises:
        ArtifactError: If a file is damaged, or they do not belong together.
        GateError: If INT8 is not worth it.
        UsageError: If there is nothing here in which the speed could be measured.
    """
    model = load_onnx(path)
    stats = read_stats(stats_path)
    stats.check_model(path)
    with Timer(model, stats, library_of(request.target), request.min_speedup or 0.0) as timer:
        quantized = quantize(model, stats, include, exclude, request.target)
        speed = timer.speed(with_rest(quantized, stats, request.rest, request.images)[0])
    if not speed.is_enough:
        raise GateError(
            f"INT8 is not worth it for {path}: {speed.describe()}; use FP32 there, or search for "
            "layers that pay with --gate"
        )
    return speed.describe()


def _timer(
    model: onnx.ModelProto, stats: CalibrationStats, request: Request
) -> AbstractContextManager[Timer | None]:
    if request.min_speedup is None:
        return nullcontext()
    return Timer(model, stats, library_of(request.target), request.min_speedup)


def _default(
    model: onnx.ModelProto,
    stats: CalibrationStats,
    trial: Trial,
    request: Request,
    timer: Timer | None,
) -> Chosen | None:
    """Choose the default layers where they pass the gate and are fast enough; else None."""
    if not request.is_gate:
        return None
    quantized = quantize(model, stats, target=request.target)
    made, _ = with_rest(quantized, stats, request.rest, request.images)
    if not trial.effect(made, "INT8").share(INT8_LIMITS).holds(INT8_LIMITS.lost_share):
        return None
    if timer is None:
        return Chosen()
    speed = timer.speed(made)
    return Chosen(lines=(speed.describe(),)) if speed.is_enough else None


def _check_enough(trial: Trial, request: Request) -> None:
    """Refuse frames that could prove no limit of one's own."""
    if request.limits:
        check_enough(trial, request.limits)
    if request.max_ap_drop is not None and len(trial) < LEAST_FOR_AP:
        raise DataError(
            f"{counted(len(trial), 'labelled frame')} cannot bound a drop of AP, which differs "
            f"from frame to frame; give at least {LEAST_FOR_AP - len(trial)} more"
        )


def _scenes(request: Request, stats: CalibrationStats) -> Scenes:
    """Choose the frames to measure on."""
    if request.max_ap_drop is not None and request.data:
        return _labelled(request.data, request.kind, stats).spread(request.frames)
    source = request.data or request.folder
    if source is None:
        raise UsageError("give either --data ROOT or --images DIR")
    every = training_images(source, request.kind) if request.data else list_images(source)
    if request.limits:
        return Scenes(tuple(held_out(every, stats, source))).spread(request.frames)
    seen = set(choose_frames(every, stats.frames))
    unseen = [image for image in every if image not in seen]
    return Scenes(tuple(unseen if len(unseen) >= FIRST_LOOK else every)).spread(request.frames)


def _labelled(root: Path, kind: str | None, stats: CalibrationStats) -> Scenes:
    """Open labelled frames that calibration did not use: the validation split, or of all."""
    scenes = labelled_scenes(root, stats.spec.class_names, kind)
    if has_validation(root, kind):
        return scenes
    return scenes.among(held_out(training_images(root, kind), stats, root))


@dataclass(frozen=True)
class _Record:
    """Writes the record of a search beside its INT8 model."""

    path: Path
    output: Path
    command: str

    def write(
        self, found: Coverage, model: onnx.ModelProto, warnings: tuple[str, ...] = ()
    ) -> Chosen:
        """Write the result of a search; raises GateError where INT8 is not worth it."""
        said = found.describe()
        written = self._write(found, said)
        if not found.is_worth_it:
            self._remove_int8()
            more = "" if found.max_ap_drop is None else ", or allow a larger --max-ap-drop"
            tensors = "".join(f". {line}" for line in warnings)
            raise GateError(
                f"INT8 is not worth it for {self.path}: {said}; wanted at least {WORTH:.0%}. See "
                f"{written}; use FP16{more}{tensors}"
            )
        return Chosen(
            *patterns(model, found.chosen, found.target),
            (*warnings, f"{written}: {said}", *found.floats()),
        )

    def write_nothing(self, reason: str) -> None:
        """Record that nothing could be measured."""
        nothing = Coverage(None, Sensitivity(0, 0, None, {}), (), ())
        self._write(nothing, reason, nothing_to_compare=True)
        self._remove_int8()

    def _write(self, found: Coverage, said: str, *, nothing_to_compare: bool = False) -> Path:
        measured, best = found.sensitivity, found.best
        return CoverageRecord(
            int8=self.output.name,
            model=self.path.name,
            model_sha256=model_sha256(self.path),
            command=self.command,
            max_ap_drop=found.max_ap_drop,
            is_worth_it=found.is_worth_it,
            coverage=best.coverage if best else 0.0,
            frames=measured.frames,
            macs=measured.macs,
            fp32_ap=measured.fp32_ap,
            ap=best.ap if best else measured.fp32_ap,
            chosen=tuple(candidate.name for candidate in found.chosen),
            curve=found.steps,
            blocks=measured.rows(),
            rest=found.rest,
            nothing_to_compare=nothing_to_compare,
            said=said,
            speed=found.speed,
        ).write(self.output)

    def _remove_int8(self) -> None:
        """Remove the INT8 model of an earlier call."""
        self.output.unlink(missing_ok=True)
        manifest_path(self.output).unlink(missing_ok=True)
