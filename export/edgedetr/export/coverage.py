"""Find the largest share of a model that may run in INT8 before its AP falls too far.

Effects of blocks do not add, so that every set is measured as a whole, on the validation split of
labelled frames: with the rest in FP32, which is fast, and the answer with the rest that is asked
for. The chosen set has seen these frames: on others its AP may fall a little further.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tqdm import tqdm

from edgedetr.calib.onnx_file import load_onnx
from edgedetr.calib.stats import read_stats
from edgedetr.export.graph_lint import refuse_broken
from edgedetr.export.sensitivity import (
    BlockEffect,
    Candidate,
    Sensitivity,
    damage,
    measure_sensitivity,
    patterns,
    quantized,
)
from edgedetr.export.to_qdq import Rest, with_rest
from edgedetr.export.trial import Trial, labelled_scenes
from edgedetr.runtime.errors import ArtifactError, GateError, SettingsError
from edgedetr.runtime.files import sha256, write_text
from edgedetr.runtime.settings import settings_from_dict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from edgedetr.calib.stats import CalibrationStats

WORTH = 0.2
"""Least share of the multiply-accumulates for which INT8 is worth it.

INT8 halves the time of a multiply-accumulate in FP16 at best: with less than a fifth, less than a
tenth of the time could be saved, and the nodes that quantize cost some of it."""


@dataclass(frozen=True)
class Step:
    """A set of candidates that was measured together.

    Attributes:
        tried: What was new in it.
        blocks: All that was in it.
        coverage: Its share of the model's multiply-accumulates.
        ap: COCO AP in per cent.
        ap_drop: By how many points it is below that of FP32.
        rest: What all else computed in.
        kept: Whether the limit held, so that the search went on from here.
    """

    tried: str
    blocks: tuple[str, ...]
    coverage: float
    ap: float
    ap_drop: float
    kept: bool
    rest: Rest = "fp32"


@dataclass(frozen=True)
class Coverage:
    """What the search found.

    Attributes:
        max_ap_drop: The limit, in points of AP.
        sensitivity: What each candidate costs alone.
        steps: Every set that was measured, in this order.
        chosen: The candidates that go into INT8.
        rest: What all else computes in.
    """

    max_ap_drop: float
    sensitivity: Sensitivity
    steps: tuple[Step, ...]
    chosen: tuple[Candidate, ...]
    rest: Rest = "fp32"

    @property
    def best(self) -> Step | None:
        """The measurement of what was chosen; None where no candidate holds the limit."""
        kept = [step for step in self.steps if step.kept and step.rest == self.rest]
        return max(kept, key=lambda step: step.coverage, default=None)

    @property
    def is_worth_it(self) -> bool:
        """Whether enough of the model can run in INT8."""
        return self.best is not None and self.best.coverage >= WORTH

    def describe(self) -> str:
        """Say it in a line."""
        where = f"FP32 has AP {self.sensitivity.fp32_ap:.2f} on {self.sensitivity.frames} frames"
        if self.best is None:
            least = min(self.steps, key=lambda step: step.ap_drop)
            return (
                f"no block holds an AP drop of {self.max_ap_drop:g} points; the least is "
                f"{least.ap_drop:.2f} points for {least.coverage:.1%} of the multiply-accumulates "
                f"({least.tried}); {where}"
            )
        return (
            f"{self.best.coverage:.1%} of the multiply-accumulates in INT8, the rest in "
            f"{self.rest.upper()}, within an AP drop of {self.max_ap_drop:g} points: "
            f"{self.best.ap_drop:+.2f}; {where}"
        )


@dataclass(frozen=True)
class CoverageRecord:
    """What ``OUTPUT.coverage.json`` holds.

    Attributes:
        int8: File name of the INT8 model.
        model: File name of the FP32 model.
        model_sha256: Hash of its bytes.
        command: What searched.
        max_ap_drop: The limit, in points of AP.
        is_worth_it: Whether the INT8 model was written.
        coverage: Share of the multiply-accumulates that may run in INT8.
        frames: Frames that every set was measured on.
        macs: Multiply-accumulates of the model.
        fp32_ap: COCO AP of the FP32 model in per cent.
        ap: COCO AP of what was chosen, in per cent; that of FP32 where nothing was.
        chosen: Names of the candidates in INT8.
        curve: Every set that was measured, in this order.
        blocks: What each candidate costs alone, the worst first.
        rest: What all else computes in.
    """

    int8: str
    model: str
    model_sha256: str
    command: str
    max_ap_drop: float
    is_worth_it: bool
    coverage: float
    frames: int
    macs: int
    fp32_ap: float
    ap: float
    chosen: tuple[str, ...]
    curve: tuple[Step, ...]
    blocks: tuple[BlockEffect, ...]
    rest: Rest = "fp32"


def read_coverage(path: Path) -> CoverageRecord:
    """Read what `choose_coverage` wrote.

    Raises:
        ArtifactError: If the file is missing, damaged or something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return settings_from_dict(CoverageRecord, values, str(path))
    except (OSError, ValueError, SettingsError) as error:
        raise ArtifactError(f"{path}: no measured coverage of INT8: {error}") from error


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        data: A KITTI object folder; its validation split is used.
        frames: How many of its frames at most, evenly spread.
        max_ap_drop: The limit, in points of AP from 0 to 100.
        rest: What computes where INT8 does not.
        images: RGB images, uint8 (H, W, 3), on which ``fp16`` measures ranges; made up when None.
    """

    data: Path
    frames: int
    max_ap_drop: float
    rest: Rest = "fp32"
    images: Sequence[NDArray[np.uint8]] | None = None


def choose_coverage(
    path: Path, stats_path: Path, output: Path, request: Request, command: str = ""
) -> tuple[Coverage, tuple[str, str]]:
    """Search, and write what was measured to ``OUTPUT.coverage.json``.

    Args:
        path: A float32 ONNX model.
        stats_path: What ``edgedetr calib collect`` wrote for exactly this model.
        output: The INT8 model that is to be written.
        request: What is asked for.
        command: What the file names as its maker.

    Returns:
        What was found, and the ``include`` and ``exclude`` by which
        `edgedetr.export.to_qdq.export_qdq` writes it.

    Raises:
        ArtifactError: If a file is damaged, or they do not belong together.
        DataError: If the frames are missing or damaged, or the model finds nothing in them.
        GateError: If INT8 is not worth it, or TensorRT would break the graph.
    """
    model = load_onnx(path)
    stats = read_stats(stats_path)
    stats.check_model(path)
    refuse_broken(model, path.name)
    scenes = labelled_scenes(request.data, stats.spec.class_names).spread(request.frames)
    with Trial(model, stats.spec, scenes) as trial:
        found = find_coverage(
            model, stats, trial, request.max_ap_drop, request.rest, request.images
        )
    record = _record(found, path, output, command)
    written = coverage_path(output)
    write_text(written, json.dumps(asdict(record), indent=1) + "\n")
    if not found.is_worth_it:
        raise GateError(
            f"INT8 is not worth it for {path}: {found.describe()}; wanted at least {WORTH:.0%}. "
            f"See {written}; use FP16, or allow a larger --max-ap-drop"
        )
    return found, patterns(model, found.chosen)


def _record(found: Coverage, path: Path, output: Path, command: str) -> CoverageRecord:
    fp32_ap = found.sensitivity.fp32_ap or 0.0
    return CoverageRecord(
        int8=output.name,
        model=path.name,
        model_sha256=sha256(path),
        command=command,
        max_ap_drop=found.max_ap_drop,
        is_worth_it=found.is_worth_it,
        coverage=found.best.coverage if found.best else 0.0,
        frames=found.sensitivity.frames,
        macs=found.sensitivity.macs,
        fp32_ap=fp32_ap,
        ap=found.best.ap if found.best else fp32_ap,
        chosen=tuple(candidate.name for candidate in found.chosen),
        curve=found.steps,
        blocks=found.sensitivity.rows(),
        rest=found.rest,
    )


def coverage_path(output: Path) -> Path:
    """Return where the measurements behind an INT8 model lie."""
    return output.with_name(f"{output.name}.coverage.json")


def find_coverage(
    model: onnx.ModelProto,
    stats: CalibrationStats,
    trial: Trial,
    max_ap_drop: float,
    rest: Rest = "fp32",
    images: Sequence[NDArray[np.uint8]] | None = None,
) -> Coverage:
    """Put candidates into INT8, those that cost least for each multiply-accumulate first.

    One that breaks the limit is left out and gets a second chance at the end, because AP also rises
    by chance. The first convolution and linear layers are tried only where they cost less than
    some other candidate. At last all other candidates are measured together, which is what
    `edgedetr.export.to_qdq.quantize` takes by default. Where the rest shall be FP16, what was
    chosen is measured so, and what cost most is taken out again until the limit holds.

    Args:
        model: The float32 model.
        stats: Its ranges.
        trial: The labelled frames.
        max_ap_drop: The limit, in points of AP.
        rest: What computes where INT8 does not.
        images: RGB images on which ``fp16`` measures ranges; made up when None.

    Raises:
        ArtifactError: If the model has nothing to quantize, or the stats lack a tensor.
    """
    sensitivity = measure_sensitivity(model, stats, trial)
    order = _order(sensitivity)
    search = _Search(model, stats, trial, sensitivity, max_ap_drop)
    with tqdm(order, desc="coverage", unit="block", disable=None) as bar:
        left = [candidate for candidate in bar if not search.try_adding(candidate)]
    if len(left) < len(order):
        left = [candidate for candidate in left if not search.try_adding(candidate)]
    default = [c for c in order if c.kind == "conv"]
    if not set(default) <= set(search.chosen):
        search.try_all(default)
    if rest != "fp32":
        search.finish(order, rest, images)
    return Coverage(max_ap_drop, sensitivity, tuple(search.steps), tuple(search.chosen), rest)


class _Search:
    """Remembers what was measured and what is chosen so far."""

    def __init__(
        self,
        model: onnx.ModelProto,
        stats: CalibrationStats,
        trial: Trial,
        sensitivity: Sensitivity,
        max_ap_drop: float,
    ) -> None:
        self.chosen: list[Candidate] = []
        self.steps: list[Step] = []
        self._model, self._stats, self._trial = model, stats, trial
        self._sensitivity, self._limit = sensitivity, max_ap_drop
        self._rest: Rest = "fp32"
        self._images: Sequence[NDArray[np.uint8]] | None = None

    def try_adding(self, candidate: Candidate) -> bool:
        """Choose one more, and tell whether the limit holds with it."""
        together = [*self.chosen, candidate]
        step = self._measure(candidate.name, together)
        if step.kept:
            self.chosen = together
        return step.kept

    def try_all(self, candidates: Sequence[Candidate]) -> None:
        """Choose these instead where the limit holds and they cover more."""
        step = self._measure("all convolutions but the first", candidates)
        if step.kept and _macs(candidates) > _macs(self.chosen):
            self.chosen = list(candidates)

    def finish(
        self, order: list[Candidate], rest: Rest, images: Sequence[NDArray[np.uint8]] | None
    ) -> None:
        """Take out what costs most for its work until the limit holds with the rest as asked."""
        self._rest, self._images = rest, images
        self.chosen.sort(key=order.index)
        tried = f"all that was chosen, the rest in {rest.upper()}"
        while self.chosen and not self._measure(tried, self.chosen).kept:
            tried = f"without {self.chosen.pop().name}"

    def _measure(self, tried: str, together: Sequence[Candidate]) -> Step:
        int8 = quantized(self._model, self._stats, together)
        made, _ = with_rest(int8, self._stats, self._rest, self._images)
        effect = self._trial.effect(made, tried)
        ap, drop = effect.ap, effect.ap_drop
        if ap is None or drop is None:
            raise ValueError("a limit of AP needs frames with labels")
        step = Step(
            tried=tried,
            blocks=tuple(candidate.name for candidate in together),
            coverage=_macs(together) / self._sensitivity.macs,
            ap=ap,
            ap_drop=drop,
            kept=drop <= self._limit,
            rest=self._rest,
        )
        self.steps.append(step)
        return step


def _order(sensitivity: Sensitivity) -> list[Candidate]:
    """Order candidates by what they cost for each multiply-accumulate."""

    def cost(candidate: Candidate) -> tuple[float, float]:
        lost, moved = damage(sensitivity.effects[candidate])
        return lost / candidate.macs, moved / candidate.macs

    order = sorted(sensitivity.effects, key=cost)
    last = max((i for i, c in enumerate(order) if c.kind == "conv"), default=len(order))
    return order[: last + 1]


def _macs(candidates: Sequence[Candidate]) -> int:
    return sum(candidate.macs for candidate in candidates)
