"""Choose the INT8 layers of a model by measuring on frames, and record the measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedetr.calib.frames import choose_frames
from edgedetr.calib.stats import read_stats
from edgedetr.distill.data import training_images
from edgedetr.export.search.coverage_record import CoverageRecord, coverage_path
from edgedetr.export.search.int8_coverage import WORTH, Coverage, find_coverage
from edgedetr.export.search.sensitivity import Sensitivity, patterns
from edgedetr.export.search.trial import NothingToCompareError, Scenes, Trial, labelled_scenes
from edgedetr.export.transforms.quantize import Rest, quantize, with_rest
from edgedetr.export.verify.limits import INT8_LIMITS
from edgedetr.export.verify.lost_share import FIRST_LOOK
from edgedetr.graph.checksum import model_sha256
from edgedetr.graph.lint import refuse_broken
from edgedetr.graph.model_file import load_onnx
from edgedetr.runtime.errors import GateError
from edgedetr.runtime.manifest import manifest_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from edgedetr.calib.stats import CalibrationStats
    from edgedetr.calib.targets import Target


@dataclass(frozen=True)
class Request:
    """Frames and limit of a search.

    Attributes:
        data: A data set. A drop of AP is measured on its validation split, the gate on
            frames of its training split that calibration did not use.
        frames: How many of its frames at most, evenly spread.
        max_ap_drop: The limit, in points of AP from 0 to 100; None for the gate of
            ``edgedetr verify``.
        rest: The precision of the rest.
        images: RGB images, uint8 (H, W, 3), on which ``fp16`` measures ranges; synthetic when None.
        kind: The format of the data set; None recognises it.
        target: What the INT8 model is for.
    """

    data: Path
    frames: int
    max_ap_drop: float | None = None
    rest: Rest = "fp32"
    images: Sequence[NDArray[np.uint8]] | None = None
    kind: str | None = None
    target: Target = "tensorrt"


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
        DataError: If the frames are missing or damaged, or the limit is a drop of AP and the model
            has no detection in them.
        GateError: If INT8 is not worth it, or TensorRT would break the graph.
    """
    model = load_onnx(path)
    stats = read_stats(stats_path)
    stats.check_model(path)
    refuse_broken(model, path.name)
    record = _Record(path, output, command)
    try:
        with Trial(model, stats.spec, _scenes(request, stats)) as trial:
            if request.max_ap_drop is None and _default_passes(model, stats, trial, request):
                coverage_path(output).unlink(missing_ok=True)
                return Chosen()
            found = find_coverage(
                model,
                stats,
                trial,
                request.max_ap_drop,
                request.rest,
                request.images,
                request.target,
            )
    except NothingToCompareError as error:
        if request.max_ap_drop is not None:
            raise
        record.write_nothing(str(error))
        raise GateError(f"{path} was not quantized: {error}") from error
    return record.write(found, model)


def _default_passes(
    model: onnx.ModelProto, stats: CalibrationStats, trial: Trial, request: Request
) -> bool:
    quantized = quantize(model, stats, target=request.target)
    made, _ = with_rest(quantized, stats, request.rest, request.images)
    share = trial.effect(made, "INT8").share(INT8_LIMITS)
    return share.holds(INT8_LIMITS.lost_share)


def _scenes(request: Request, stats: CalibrationStats) -> Scenes:
    """Choose the frames to measure on."""
    if request.max_ap_drop is not None:
        scenes = labelled_scenes(request.data, stats.spec.class_names, request.kind)
        return scenes.spread(request.frames)
    every = training_images(request.data, request.kind)
    seen = set(choose_frames(every, stats.frames))
    unseen = [image for image in every if image not in seen]
    return Scenes(tuple(unseen if len(unseen) >= FIRST_LOOK else every)).spread(request.frames)


@dataclass(frozen=True)
class _Record:
    """Writes the record of a search beside its INT8 model."""

    path: Path
    output: Path
    command: str

    def write(self, found: Coverage, model: onnx.ModelProto) -> Chosen:
        """Write the result of a search; raises GateError where INT8 is not worth it."""
        said = found.describe()
        written = self._write(found, said)
        if not found.is_worth_it:
            self._remove_int8()
            more = "" if found.max_ap_drop is None else ", or allow a larger --max-ap-drop"
            raise GateError(
                f"INT8 is not worth it for {self.path}: {said}; wanted at least {WORTH:.0%}. See "
                f"{written}; use FP16{more}"
            )
        return Chosen(
            *patterns(model, found.chosen, found.target), (f"{written}: {said}", *found.floats())
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
        ).write(self.output)

    def _remove_int8(self) -> None:
        """Remove the INT8 model of an earlier call."""
        self.output.unlink(missing_ok=True)
        manifest_path(self.output).unlink(missing_ok=True)
