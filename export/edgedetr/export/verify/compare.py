"""Compare the detections of two models: checkpoints, ONNX files, engines of any precision.

Raw outputs of detection transformers cannot be compared: a rounding error reorders the queries.
So detections are compared, after the runtime's own pre- and postprocessing. In FP32 none may be
lost on any frame; in other precisions the share of lost ones is tested, on more frames until that
is decided.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.export.verify.activations import compare_activations
from edgedetr.export.verify.batches import check_batches
from edgedetr.export.verify.findings import Evidence
from edgedetr.export.verify.lost_share import ERROR_RATE, looks_at
from edgedetr.export.verify.matching import MARGIN, Rule, match
from edgedetr.export.verify.quantizers import FRAMES as QUANTIZER_FRAMES
from edgedetr.export.verify.query_ties import SelectingRunner, with_same_selection
from edgedetr.export.verify.report import ParityReport
from edgedetr.export.verify.runner import compared_with, open_runner
from edgedetr.graph.checksum import model_sha256
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.types import Detections

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray

    from edgedetr.export.verify.limits import Gate, Limits
    from edgedetr.export.verify.matching import Pairs
    from edgedetr.export.verify.runner import Runner
    from edgedetr.runtime.preprocess import Placement
    from edgedetr.runtime.spec import ModelSpec

SPARE = 400
"""How many detections beyond the spec's ``max_detections`` may be a match."""
LEAST_EXACT = 20
"""How many detections of a frame are compared in FP32 in any case, whatever their score."""


@dataclass(frozen=True)
class Options:
    """Options of `verify`.

    Attributes:
        spec: The contract of models that carry none.
        frame_names: What to call the frames, in order.
        traced: Whether to trace a checkpoint, so that the blocks of its graph can be compared.
    """

    spec: ModelSpec | None = None
    frame_names: Sequence[str] = ()
    traced: bool = False


def verify(  # noqa: PLR0913, PLR0917 - two models, frames, and what to hold them to
    reference: str | os.PathLike[str],
    candidate: str | os.PathLike[str],
    frames: Collection[NDArray[np.uint8]],
    rule: Rule,
    gate: Gate,
    command: str = "",
    options: Options | None = None,
) -> ParityReport:
    """Compare two model files on camera frames, and their activations on the worst of these.

    A checkpoint that was trained for INT8 rounds as its INT8 export does beside a model that is
    INT8, and computes in float beside any other.

    Args:
        reference: A ``.safetensors`` checkpoint, an ``.onnx`` file of any precision or an
            ``.engine``.
        candidate: Likewise.
        frames: RGB images, uint8 (H, W, 3), in an order that favours nothing: where the gate is a
            test, it stops as soon as that is decided.
        rule: Which detections must have a match.
        gate: The limits.
        command: The command that compares, for the report.
        options: See `Options`.

    Raises:
        UsageError: If a file is none of them.
        ArtifactError: If a file is missing or damaged, cannot run here, or the models have other
            classes or inputs of another size.
    """
    reference = Path(reference)
    candidate = Path(candidate)
    options = options or Options()
    a, b = open_runner(reference, options.spec), open_runner(candidate, options.spec)
    a, b = compared_with(b, a), compared_with(a, b)
    names = (reference.name, candidate.name)
    limits = gate.limits(a.precision, b.precision)
    evidence = compare(a, b, frames, rule, limits, names, options.frame_names)
    worst = [frame.image for frame in evidence.worst]
    opened = list(zip(names, (a, b), strict=True)) if worst else []
    return ParityReport(
        figures=evidence.figures,
        share=evidence.share(limits, _looks(len(frames), limits)[evidence.figures.frames]),
        limits=limits,
        threshold=rule.threshold,
        reference=reference.name,
        reference_sha256=model_sha256(reference),
        candidate=candidate.name,
        candidate_sha256=model_sha256(candidate),
        command=command,
        precisions=(a.precision, b.precision),
        batches=tuple(c for name, runner in opened for c in check_batches(runner, name, worst)),
        activations=compare_activations(
            (a, b), names, worst, list(islice(frames, QUANTIZER_FRAMES)), traced=options.traced
        ),
        evidence=evidence,
    )


def compare(  # noqa: PLR0913, PLR0917 - two models, frames, and what to hold them to
    a: Runner,
    b: Runner,
    frames: Collection[NDArray[np.uint8]],
    rule: Rule,
    limits: Limits,
    names: tuple[str, str],
    frame_names: Sequence[str] = (),
) -> Evidence:
    """Run two models on the same frames and match their detections.

    Args:
        a: One model.
        b: The other.
        frames: RGB images, uint8 (H, W, 3).
        rule: Which detections must have a match. Where the limits are exact, the best
            `LEAST_EXACT` of a frame must in any case.
        limits: When a detection is kept. Unless they are exact, frames are added only until the
            share of lost ones is decided.
        names: What to call the models in messages.
        frame_names: What to call the frames, in order.

    Raises:
        ArtifactError: If the models have other classes or inputs of another size.
    """
    _check_specs(a.spec, b.spec, names)
    looks = _looks(len(frames), limits)
    evidence = Evidence(a.spec.class_names, frame_names)
    comparison = _Comparison(a, b, _least(rule, limits), limits)
    for count, frame in enumerate(frames, 1):
        comparison.add(frame, evidence)
        if count in looks and not limits.exact:
            share = evidence.share(limits, looks[count])
            if share.verdict(limits.lost_share) != "undecided":
                break
    return evidence


def _looks(frames: int, limits: Limits) -> dict[int, float]:
    return {frames: ERROR_RATE} if limits.exact else looks_at(frames)


def _least(rule: Rule, limits: Limits) -> Rule:
    return replace(rule, least=LEAST_EXACT) if limits.exact else rule


class _Comparison:
    """Two models, and how their detections are matched."""

    def __init__(self, a: Runner, b: Runner, rule: Rule, limits: Limits) -> None:
        self._runners = a, b
        self._views = _View(a), _View(b)
        self._rule, self._limits = rule, limits
        self._lowest = 0.0 if rule.least else rule.threshold - MARGIN

    def add(self, frame: NDArray[np.uint8], evidence: Evidence) -> None:
        """Run both models on a frame and add how they agree."""
        results = [view.run(frame) for view in self._views]
        broken = sum(result.non_finite for result in results)
        if broken:
            evidence.add(frame, None, (_NOTHING, _NOTHING), broken)
            return
        pairs, found = self._matched(results)
        tied = False
        if self._limits.exact and pairs.lost(self._limits):
            again = self._with_same_selection()
            tied = again is not None and not again[0].lost(self._limits)
            if again is not None and tied:
                pairs, found = again
        evidence.add(frame, pairs, found, tied=tied)

    def _matched(self, results: Sequence[_Result]) -> tuple[Pairs, tuple[Detections, Detections]]:
        """Match the detections; return also those of each model that count."""
        found = [result.detections(self._lowest) for result in results]
        most = self._runners[0].spec.max_detections
        pairs = match(found[0], found[1], self._rule, most)
        return pairs, (_best(found[0], self._rule, most), _best(found[1], self._rule, most))

    def _with_same_selection(self) -> tuple[Pairs, tuple[Detections, Detections]] | None:
        """Match the detections of the last frame where both models select the same queries."""
        a, b = self._runners
        if not (isinstance(a, SelectingRunner) and isinstance(b, SelectingRunner)):
            return None
        if a.spec.mean != b.spec.mean or a.spec.std != b.spec.std:
            return None
        both = with_same_selection(a, b, self._views[0].images)
        if both is None:
            return None
        return self._matched([v.read(*x) for v, x in zip(self._views, both, strict=True)])


class _View:
    """A model with its own preprocessing and input buffer.

    Attributes:
        images: The last input of the network, float32 (1, 3, H, W).
    """

    def __init__(self, runner: Runner) -> None:
        spec = runner.spec
        self.images = np.zeros((1, 3, *spec.input_hw), np.float32)
        self._runner = runner
        self._preprocess = Preprocessor(spec)
        self._spec = replace(spec, max_detections=spec.max_detections + SPARE)
        self._place: Placement | None = None

    def run(self, frame: NDArray[np.uint8]) -> _Result:
        """Run the model on a frame."""
        self._place = self._preprocess(frame, self.images[0])
        return self.read(*self._runner(self.images))

    def read(self, logits: NDArray[np.float32], boxes: NDArray[np.float32]) -> _Result:
        """Take outputs for the last frame, logits (1, Q, K) and boxes (1, Q, 4)."""
        if self._place is None:
            raise ValueError("no frame was run yet")
        return _Result(logits[0], boxes[0], self._place, self._spec)


@dataclass(frozen=True, eq=False)
class _Result:
    """The outputs of a model for one frame."""

    logits: NDArray[np.float32]
    boxes: NDArray[np.float32]
    place: Placement
    spec: ModelSpec

    @property
    def non_finite(self) -> int:
        return int((~np.isfinite(self.logits)).sum() + (~np.isfinite(self.boxes)).sum())

    def detections(self, threshold: float) -> Detections:
        return postprocess(self.logits, self.boxes, self.place, self.spec, threshold)


def _check_specs(a: ModelSpec, b: ModelSpec, names: tuple[str, str]) -> None:
    for what, in_a, in_b in (
        ("the classes", a.class_names, b.class_names),
        ("an input of height and width", a.input_hw, b.input_hw),
    ):
        if in_a != in_b:
            raise ArtifactError(
                f"{names[0]} has {what} {_listed(in_a)}, {names[1]} {_listed(in_b)}; compare "
                "models of the same origin"
            )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def _best(found: Detections, rule: Rule, most: int) -> Detections:
    """Return those that count."""
    keep = rule.counts(found, most)
    return Detections(found.boxes[keep], found.scores[keep], found.labels[keep])


_NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
