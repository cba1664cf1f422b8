"""Choose what of a model goes into INT8, by what is lost on frames, and keep what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedetr.calib.frames import choose_frames, kitti_images
from edgedetr.calib.stats import read_stats
from edgedetr.export.search.coverage_record import CoverageRecord, coverage_path
from edgedetr.export.search.int8_coverage import WORTH, find_coverage
from edgedetr.export.search.sensitivity import patterns
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
    from edgedetr.export.search.int8_coverage import Coverage


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        data: A KITTI object folder. A drop of AP is measured on its validation split, the gate on
            frames of its training split that calibration has not seen.
        frames: How many of its frames at most, evenly spread.
        max_ap_drop: The limit, in points of AP from 0 to 100; None for the gate of
            ``edgedetr verify``.
        rest: What computes where INT8 does not.
        images: RGB images, uint8 (H, W, 3), on which ``fp16`` measures ranges; made up when None.
    """

    data: Path
    frames: int
    max_ap_drop: float | None = None
    rest: Rest = "fp32"
    images: Sequence[NDArray[np.uint8]] | None = None


@dataclass(frozen=True)
class Chosen:
    """What to quantize.

    Attributes:
        include: For `edgedetr.export.to_qdq.export_qdq`.
        exclude: Likewise.
        lines: What was measured, in lines.
    """

    include: str = ""
    exclude: str = ""
    lines: tuple[str, ...] = ()


def choose_coverage(
    path: Path, stats_path: Path, output: Path, request: Request, command: str = ""
) -> Chosen:
    """Search, and write what was measured to ``OUTPUT.coverage.json``.

    Where the gate decides and all that is quantized by default passes it, nothing is searched for
    and no such file is left.

    Args:
        path: A float32 ONNX model.
        stats_path: What ``edgedetr calib collect`` wrote for exactly this model.
        output: The INT8 model that is to be written; one that is there is removed where INT8 is not
            worth it.
        request: What is asked for.
        command: What the file names as its maker.

    Raises:
        ArtifactError: If a file is damaged, or they do not belong together.
        DataError: If the frames are missing or damaged, or a drop of AP is asked for and the model
            finds nothing in them.
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
                model, stats, trial, request.max_ap_drop, request.rest, request.images
            )
    except NothingToCompareError as error:
        if request.max_ap_drop is not None:
            raise
        record.write_nothing(str(error))
        raise GateError(f"INT8 is not made of {path}: {error}") from error
    return record.write(found, model)


def _default_passes(
    model: onnx.ModelProto, stats: CalibrationStats, trial: Trial, request: Request
) -> bool:
    made, _ = with_rest(quantize(model, stats), stats, request.rest, request.images)
    share = trial.effect(made, "INT8").share(INT8_LIMITS)
    return share.holds(INT8_LIMITS.lost_share)


def _scenes(request: Request, stats: CalibrationStats) -> Scenes:
    """Choose the frames to measure on."""
    if request.max_ap_drop is not None:
        return labelled_scenes(request.data, stats.spec.class_names).spread(request.frames)
    every = kitti_images(request.data)
    seen = set(choose_frames(every, stats.frames))
    unseen = [image for image in every if image not in seen]
    return Scenes(tuple(unseen if len(unseen) >= FIRST_LOOK else every)).spread(request.frames)


@dataclass(frozen=True)
class _Record:
    """Where the record of a search goes, and whose it is."""

    path: Path
    output: Path
    command: str

    def write(self, found: Coverage, model: onnx.ModelProto) -> Chosen:
        """Write what was found; raises GateError where INT8 is not worth it."""
        fp32_ap, best, said = found.sensitivity.fp32_ap, found.best, found.describe()
        written = CoverageRecord(
            int8=self.output.name,
            model=self.path.name,
            model_sha256=model_sha256(self.path),
            command=self.command,
            max_ap_drop=found.max_ap_drop,
            is_worth_it=found.is_worth_it,
            coverage=best.coverage if best else 0.0,
            frames=found.sensitivity.frames,
            macs=found.sensitivity.macs,
            fp32_ap=fp32_ap,
            ap=best.ap if best else fp32_ap,
            chosen=tuple(candidate.name for candidate in found.chosen),
            curve=found.steps,
            blocks=found.sensitivity.rows(),
            rest=found.rest,
            said=said,
        ).write(self.output)
        if not found.is_worth_it:
            self._remove_int8()
            more = "" if found.max_ap_drop is None else ", or allow a larger --max-ap-drop"
            raise GateError(
                f"INT8 is not worth it for {self.path}: {said}; wanted at least {WORTH:.0%}. See "
                f"{written}; use FP16{more}"
            )
        return Chosen(*patterns(model, found.chosen), (f"{written}: {said}", *found.floats()))

    def write_nothing(self, reason: str) -> None:
        """Note that nothing could be measured."""
        CoverageRecord(
            int8=self.output.name,
            model=self.path.name,
            model_sha256=model_sha256(self.path),
            command=self.command,
            max_ap_drop=None,
            is_worth_it=False,
            coverage=0.0,
            frames=0,
            macs=0,
            fp32_ap=None,
            ap=None,
            chosen=(),
            curve=(),
            blocks=(),
            nothing_to_compare=True,
            said=reason,
        ).write(self.output)
        self._remove_int8()

    def _remove_int8(self) -> None:
        """Remove what an earlier call left."""
        self.output.unlink(missing_ok=True)
        manifest_path(self.output).unlink(missing_ok=True)
