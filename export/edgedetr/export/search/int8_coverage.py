"""Find the largest share of a model that may run in INT8 before it loses too much.

Too much is a drop of AP on labelled frames, or more lost detections than a gate allows. Effects of
blocks do not add up, so that every set is measured as a whole: with the rest in FP32, which is
fast, and at last with the rest in the requested precision. A block that does not hold the limit is
searched layer by layer. A set is chosen on its frames and may lose a little more on others. So the
search for the gate uses training frames, and the validation split judges the result.

Where time decides, too, layers go back to float that cost accuracy and are no faster in INT8 in the
library that will run them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tqdm import tqdm

from edgedetr.export.search.coverage_record import Step
from edgedetr.export.search.sensitivity import (
    Candidate,
    Sensitivity,
    damage,
    effects_alone,
    measure_sensitivity,
    quantized,
    split,
)
from edgedetr.export.transforms.quantize import Rest, with_rest
from edgedetr.export.verify.figures import counted
from edgedetr.export.verify.limits import INT8_LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from edgedetr.calib.placement import Point
    from edgedetr.calib.stats import CalibrationStats
    from edgedetr.calib.targets import Target
    from edgedetr.export.search.speed import Speed, Timer
    from edgedetr.export.search.trial import Effect, Trial
    from edgedetr.export.verify.limits import Limits

WORTH = 0.2
"""Least share of the multiply-accumulates for which INT8 is worth it.

INT8 at best halves the time of a multiply-accumulate in FP16: with less than a fifth, less than a
tenth of the time could be saved, and Q/DQ nodes cost some of that."""


@dataclass(frozen=True)
class Coverage:
    """The result of the search.

    Attributes:
        max_ap_drop: The limit, in points of AP; None for that of lost detections, which the
            sensitivity names.
        sensitivity: The effect of each candidate alone.
        steps: Every set that was measured, in this order.
        chosen: The candidates that go into INT8.
        rest: The precision of the rest.
        target: What the graph is for.
        speed: How fast the chosen set is; None where it was not measured.
    """

    max_ap_drop: float | None
    sensitivity: Sensitivity
    steps: tuple[Step, ...]
    chosen: tuple[Candidate, ...]
    rest: Rest = "fp32"
    target: Target = "tensorrt"
    speed: Speed | None = None

    @property
    def best(self) -> Step | None:
        """The measurement of the chosen set; None where no candidate holds the limit."""
        names = {candidate.name for candidate in self.chosen}
        fits = (s for s in self.steps if s.kept and s.rest == self.rest and set(s.blocks) == names)
        return next(fits, None) if names else None

    @property
    def is_worth_it(self) -> bool:
        """Whether enough of the model can run in INT8, and fast enough."""
        is_fast = self.speed is None or self.speed.is_enough
        return self.best is not None and self.best.coverage >= WORTH and is_fast

    def describe(self) -> str:
        """Summarize it in a line."""
        fp32, limit = self.sensitivity.fp32_ap, _limit(self.max_ap_drop, self.sensitivity.limits)
        ap = "" if fp32 is None else f", on which FP32 has AP {fp32:.2f}"
        where = f"{counted(self.sensitivity.frames, 'frame')}{ap}"
        if self.best is None:
            least = min(self.steps, key=lambda step: (step.ap_drop or 0.0, step.lost_share or 0.0))
            return (
                f"no block holds {limit}; the smallest loss is {least.cost()} for "
                f"{least.coverage:.1%} of the multiply-accumulates ({least.tried}), on {where}"
            )
        return (
            f"{self.best.coverage:.1%} of the multiply-accumulates in INT8, the rest in "
            f"{self.rest.upper()}, within {limit}: {self.best.cost()} lost on {where}"
            + (f"; {self.speed.describe()}" if self.speed else "")
        )

    def floats(self) -> Iterator[str]:
        """Describe for all convolutions that stay float what they lose alone in INT8."""
        for candidate, effect in self.sensitivity.worst_first():
            if candidate.kind == "conv" and candidate not in self.chosen:
                drop = "" if effect.ap_drop is None else f"{effect.ap_drop:+.2f} points of AP and "
                share = effect.share(self.sensitivity.limits).share
                yield (
                    f"{candidate.name} stays float: alone in INT8 it loses {drop}{share:.2%} of "
                    "the detections"
                )


def find_coverage(  # noqa: PLR0913, PLR0917 - one argument per choice
    model: onnx.ModelProto,
    stats: CalibrationStats,
    trial: Trial,
    max_ap_drop: float | None,
    rest: Rest = "fp32",
    images: Sequence[NDArray[np.uint8]] | None = None,
    target: Target = "tensorrt",
    limits: Limits | None = None,
    timer: Timer | None = None,
) -> Coverage:
    """Put candidates into INT8, those that cost least for each multiply-accumulate first.

    A limit holds where the upper bound of the loss is within it, so that no single detection
    decides. A candidate that breaks the limit is left out and tried again at the end, because AP
    also rises by chance, and then layer by layer. Unless limits are given, the first convolution
    and linear layers are tried only where they cost less than some other candidate. At last all
    convolutions but the first are measured together, which
    `edgedetr.export.transforms.quantize.quantize` takes by default. Where the rest is FP16, the
    chosen candidates are measured so, and the costliest taken out until the limit holds.

    Args:
        model: The float32 model.
        stats: Its ranges.
        trial: The frames.
        max_ap_drop: The limit, in points of AP; None for that of lost detections.
        rest: What computes where INT8 does not.
        images: RGB images on which ``fp16`` measures ranges; synthetic when None.
        target: What the graph is for.
        limits: When a detection counts as lost, and how many may be; those of the gate when None.
        timer: Measures the time; None where it does not matter.

    Raises:
        ArtifactError: If the model has nothing to quantize, or the stats lack a tensor.
    """
    sensitivity = measure_sensitivity(model, stats, trial, target, limits or INT8_LIMITS)
    order = _order(sensitivity, to_the_last=limits is not None)
    search = _Search(model, stats, trial, sensitivity, max_ap_drop, target)
    left = search.try_each(order, "block")
    if len(left) < len(order):
        left = search.try_each(left, "block")
    search.try_layers(left)
    default = [c for c in order if c.kind == "conv"]
    if not _points(default) <= _points(search.chosen):
        search.try_all(default)
    if rest != "fp32":
        search.finish(rest, images)
    speed = search.timed(timer) if timer and search.chosen else None
    return Coverage(
        max_ap_drop,
        search.sensitivity,
        tuple(search.steps),
        tuple(search.chosen),
        rest,
        target,
        speed,
    )


class _Search:
    """The measurements and the chosen candidates so far."""

    def __init__(
        self,
        model: onnx.ModelProto,
        stats: CalibrationStats,
        trial: Trial,
        sensitivity: Sensitivity,
        max_ap_drop: float | None,
        target: Target,
    ) -> None:
        self._target: Target = target
        self.chosen: list[Candidate] = []
        self.steps: list[Step] = []
        self.sensitivity = sensitivity
        self._model, self._stats, self._trial = model, stats, trial
        self._limit = max_ap_drop
        self._rest: Rest = "fp32"
        self._images: Sequence[NDArray[np.uint8]] | None = None

    def try_each(self, candidates: Sequence[Candidate], unit: str) -> list[Candidate]:
        """Add one after the other where the limit holds with it; return those that were not."""
        with tqdm(candidates, desc="coverage", unit=unit, disable=None) as bar:
            return [candidate for candidate in bar if not self._try_adding(candidate)]

    def try_layers(self, blocks: Sequence[Candidate]) -> None:
        """Measure the layers of blocks that did not hold alone, and add those that hold."""
        layers = split(self._model, blocks)
        found = [layer for of_block in layers.values() for layer in of_block]
        limits = self.sensitivity.limits
        alone = effects_alone(self._model, self._stats, self._trial, found, self._target, limits)
        effects = {c: e for c, e in self.sensitivity.effects.items() if c not in layers}
        self.sensitivity = replace(self.sensitivity, effects=effects | alone)
        self.try_each(sorted(found, key=self._cost), "layer")

    def try_all(self, candidates: Sequence[Candidate]) -> None:
        """Take these instead where the limit holds and they cover more."""
        step = self._measure("all convolutions but the first", candidates)
        if step.kept and _macs(candidates) > _macs(self.chosen):
            self.chosen = list(candidates)

    def finish(self, rest: Rest, images: Sequence[NDArray[np.uint8]] | None) -> None:
        """Take the costliest candidates out until the limit holds with the rest in ``rest``."""
        self._rest, self._images = rest, images
        self.chosen.sort(key=self._cost)
        tried = f"all chosen candidates, the rest in {rest.upper()}"
        while self.chosen and not self._measure(tried, self.chosen).kept:
            tried = f"without {self.chosen.pop().name}"

    def timed(self, timer: Timer) -> Speed:
        """Let what costs accuracy and saves no time be float again, and return the speed."""
        saved = timer.saved_ms(self._made(self.chosen), self.chosen)
        kept = [c for c in self.chosen if saved[c] > 0 or not any(self._damage(c))]
        if kept and len(kept) < len(self.chosen):
            count = len(self.chosen) - len(kept)
            if self._measure(f"without {count} that save no time", kept).kept:
                self.chosen = kept
        return timer.speed(self._made(self.chosen))

    def _try_adding(self, candidate: Candidate) -> bool:
        """Add a candidate; return whether the limit holds with it."""
        together = [*self.chosen, candidate]
        step = self._measure(candidate.name, together)
        if step.kept:
            self.chosen = together
        return step.kept

    def _damage(self, candidate: Candidate) -> tuple[float, float]:
        return damage(self.sensitivity.effects[candidate], self.sensitivity.limits)

    def _cost(self, candidate: Candidate) -> tuple[float, float]:
        return _cost(candidate, self.sensitivity)

    def _made(self, together: Sequence[Candidate]) -> onnx.ModelProto:
        int8 = quantized(self._model, self._stats, together, self._target)
        return with_rest(int8, self._stats, self._rest, self._images)[0]

    def _measure(self, tried: str, together: Sequence[Candidate]) -> Step:
        effect = self._trial.effect(self._made(together), tried, self._limit)
        share = effect.share(self.sensitivity.limits)
        step = Step(
            tried=tried,
            blocks=tuple(candidate.name for candidate in together),
            coverage=_macs(together) / self.sensitivity.macs,
            ap=effect.ap,
            ap_drop=effect.ap_drop,
            kept=self._holds(effect),
            rest=self._rest,
            ap_drop_high=effect.ap_drop_high,
            lost_share=share.share,
            lost_share_high=share.high,
        )
        self.steps.append(step)
        return step

    def _holds(self, effect: Effect) -> bool:
        if self._limit is None:
            limits = self.sensitivity.limits
            return effect.share(limits).holds(limits.lost_share)
        if effect.ap_drop is None:
            raise ValueError("a limit of AP needs frames with labels")
        return max(effect.ap_drop, effect.ap_drop_high or effect.ap_drop) <= self._limit


def _limit(max_ap_drop: float | None, limits: Limits) -> str:
    if max_ap_drop is None:
        name = "the gate" if limits == INT8_LIMITS else "the limits"
        return f"{name} ({limits.lost_share:.0%} of the detections lost, {limits.describe()})"
    return f"an AP drop of {max_ap_drop:g} points"


def _cost(candidate: Candidate, sensitivity: Sensitivity) -> tuple[float, float]:
    """Return the loss of a candidate alone per multiply-accumulate."""
    lost, moved = damage(sensitivity.effects[candidate], sensitivity.limits)
    return lost / candidate.macs, moved / candidate.macs


def _order(sensitivity: Sensitivity, *, to_the_last: bool) -> list[Candidate]:
    """Sort candidates by cost; leave out those beyond the last convolution where that is wanted."""
    order = sorted(sensitivity.effects, key=lambda candidate: _cost(candidate, sensitivity))
    if to_the_last:
        return order
    last = max((i for i, c in enumerate(order) if c.kind == "conv"), default=len(order))
    return order[: last + 1]


def _points(candidates: Sequence[Candidate]) -> set[Point]:
    return {point for candidate in candidates for point in candidate.points}


def _macs(candidates: Sequence[Candidate]) -> int:
    return sum(candidate.macs for candidate in candidates)
