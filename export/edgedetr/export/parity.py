"""Check that two models find the same objects: checkpoints, ONNX files, engines of any precision.

Raw tensors of detection transformers cannot be compared: a rounding error reorders the queries.
So detections are compared, in source pixels, after the runtime's own pre- and postprocessing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.calib.model_hash import model_sha256
from edgedetr.export.activations import look_inside
from edgedetr.export.batch_parity import check_batches
from edgedetr.export.evidence import Evidence
from edgedetr.export.matching import MARGIN, Rule, match
from edgedetr.export.parity_report import LIMITS, Figures, Limits, ParityReport
from edgedetr.export.runners import TorchRunner, open_runner
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.types import Detections

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedetr.export.exact import Precision
    from edgedetr.export.matching import Pairs
    from edgedetr.export.runners import Runner
    from edgedetr.runtime.preprocess import Placement
    from edgedetr.runtime.spec import ModelSpec

SPARE = 400
"""How many more detections than the spec's ``max_detections`` are looked at for partners."""


@dataclass(frozen=True)
class Gate:
    """Limits that replace the default ones, which `LIMITS` gives.

    Attributes:
        box_error_px: See `edgedetr.export.parity_report.Limits`.
        score_error: Likewise.
        unmatched_share: Likewise.
    """

    box_error_px: float | None = None
    score_error: float | None = None
    unmatched_share: float | None = None

    def limits(self, *precisions: Precision) -> Limits:
        """Fill up with the defaults for models of these precisions: those of the coarsest."""
        given = {k: v for k, v in vars(self).items() if v is not None}
        return replace(LIMITS[max(precisions, key=list(LIMITS).index)], **given)


@dataclass(frozen=True)
class Looks:
    """How closely `verify` looks at two models.

    Attributes:
        spec: The contract of models that carry none.
        frame_names: What to call the frames, in order.
        traced: Whether a checkpoint is traced, so that the blocks of its graph can be compared.
    """

    spec: ModelSpec | None = None
    frame_names: Sequence[str] = ()
    traced: bool = False


def verify(  # noqa: PLR0913, PLR0917 - two models, frames, and what to hold them to
    reference: Path,
    candidate: Path,
    frames: Iterable[NDArray[np.uint8]],
    rule: Rule,
    gate: Gate,
    command: str = "",
    looks: Looks | None = None,
) -> ParityReport:
    """Compare two model files on camera frames, and look inside them on the worst of these.

    A checkpoint that was trained for INT8 rounds as its INT8 export does beside a model that is
    INT8, and computes in float beside any other.

    Args:
        reference: A ``.safetensors`` checkpoint, an ``.onnx`` file of any precision or an
            ``.engine``.
        candidate: Likewise.
        frames: RGB images, uint8 (H, W, 3).
        rule: Which detections must have a partner.
        gate: What the report may find and still pass.
        command: What runs the comparison, for the report.
        looks: How closely to look.

    Raises:
        UsageError: If a file is none of them.
        ArtifactError: If a file is missing or damaged, cannot run here, or the models have other
            classes or inputs of another size.
    """
    looks = looks or Looks()
    a, b = open_runner(reference, looks.spec), open_runner(candidate, looks.spec)
    a, b = _beside(a, b), _beside(b, a)
    names = (reference.name, candidate.name)
    evidence = Evidence(a.spec.class_names, looks.frame_names)
    figures = _compare(a, b, frames, rule, names, evidence)
    worst = [frame.image for frame in evidence.worst]
    opened = list(zip(names, (a, b), strict=True)) if worst else []
    return ParityReport(
        figures=figures,
        limits=gate.limits(a.precision, b.precision),
        threshold=rule.threshold,
        reference=reference.name,
        reference_sha256=model_sha256(reference),
        candidate=candidate.name,
        candidate_sha256=model_sha256(candidate),
        command=command,
        precisions=(a.precision, b.precision),
        batches=tuple(c for name, runner in opened for c in check_batches(runner, name, worst)),
        activations=look_inside((a, b), names, worst, traced=looks.traced),
        evidence=evidence,
    )


def _beside(runner: Runner, other: Runner) -> Runner:
    """Let a checkpoint compute in float where the other model does."""
    if isinstance(runner, TorchRunner) and other.precision != "int8":
        return runner.in_float()
    return runner


def compare(
    a: Runner,
    b: Runner,
    frames: Iterable[NDArray[np.uint8]],
    rule: Rule,
    names: tuple[str, str],
) -> Figures:
    """Let two models see the same frames and match what they find.

    Args:
        a: One model.
        b: The other.
        frames: RGB images, uint8 (H, W, 3).
        rule: Which detections must have a partner.
        names: What to call the models in messages.

    Raises:
        ArtifactError: If the models have other classes or inputs of another size.
    """
    return _compare(a, b, frames, rule, names, Evidence(a.spec.class_names))


def _compare(
    a: Runner,
    b: Runner,
    frames: Iterable[NDArray[np.uint8]],
    rule: Rule,
    names: tuple[str, str],
    evidence: Evidence,
) -> Figures:
    _check_specs(a.spec, b.spec, names)
    views = _View(a), _View(b)
    for frame in frames:
        answers = [view.answer(frame) for view in views]
        broken = sum(answer.non_finite for answer in answers)
        if broken:
            evidence.add(frame, None, (_NOTHING, _NOTHING), broken)
            continue
        found = [answer.detections(rule.threshold - MARGIN) for answer in answers]
        pairs = match(found[0], found[1], rule, a.spec.max_detections)
        evidence.add(frame, pairs, (_counting(found[0], rule), _counting(found[1], rule)))
    return figures_from_pairs(
        evidence.pairs, len(evidence.frames), sum(f.non_finite for f in evidence.frames)
    )


def figures_from_pairs(pairs: Sequence[Pairs], frames: int, non_finite: int) -> Figures:
    """Join what was matched in each of ``frames`` frames."""
    unmatched = sum(p.unmatched for p in pairs)
    box, drop, error, overlap = (
        np.concatenate([np.zeros(0), *(getattr(p, name) for p in pairs)])
        for name in ("box_errors_px", "score_drops", "score_errors", "ious")
    )
    matched = len(box)
    return Figures(
        frames=frames,
        matched=matched,
        unmatched=unmatched,
        unmatched_share=unmatched / max(1, matched + unmatched),
        max_box_error_px=float(box.max()) if matched else None,
        p99_box_error_px=float(np.percentile(box, 99)) if matched else None,
        max_score_error=float(error.max()) if matched else None,
        mean_score_error=float(error.mean()) if matched else None,
        mean_score_drop=float(drop.mean()) if matched else None,
        max_score_drop=float(drop.max()) if matched else None,
        min_iou=float(overlap.min()) if matched else None,
        non_finite=non_finite,
    )


class _View:
    """A model with its own preprocessing and input buffer."""

    def __init__(self, runner: Runner) -> None:
        spec = runner.spec
        self._runner = runner
        self._preprocess = Preprocessor(spec)
        self._images = np.zeros((1, 3, *spec.input_hw), np.float32)
        self._spec = replace(spec, max_detections=spec.max_detections + SPARE)

    def answer(self, frame: NDArray[np.uint8]) -> _Answer:
        """Run the model on a frame."""
        place = self._preprocess(frame, self._images[0])
        logits, boxes = self._runner(self._images)
        return _Answer(logits[0], boxes[0], place, self._spec)


@dataclass(frozen=True, eq=False)
class _Answer:
    """What a model said about one frame."""

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


def _counting(found: Detections, rule: Rule) -> Detections:
    """Return those that reach the threshold."""
    keep = found.scores >= rule.threshold
    return Detections(found.boxes[keep], found.scores[keep], found.labels[keep])


_NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
