"""Check that two models find the same objects: a checkpoint, its ONNX file, its INT8 file.

Raw tensors of detection transformers cannot be compared: a rounding error reorders the queries.
So detections are compared, in source pixels, after the runtime's own pre- and postprocessing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.calib.model_hash import model_sha256
from edgedetr.export.matching import MARGIN, Pairs, Rule, match
from edgedetr.export.parity_report import FP32_LIMITS, INT8_LIMITS, Figures, Limits, ParityReport
from edgedetr.export.runners import open_runner
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedetr.export.runners import Runner
    from edgedetr.runtime.preprocess import Placement
    from edgedetr.runtime.spec import ModelSpec
    from edgedetr.runtime.types import Detections

SPARE = 400
"""How many more detections than the spec's ``max_detections`` are looked at for partners."""


@dataclass(frozen=True)
class Gate:
    """Limits that replace the default ones, which `FP32_LIMITS` and `INT8_LIMITS` give.

    Attributes:
        box_error_px: See `edgedetr.export.parity_report.Limits`.
        score_error: Likewise.
        unmatched_share: Likewise.
    """

    box_error_px: float | None = None
    score_error: float | None = None
    unmatched_share: float | None = None

    def limits(self, *, quantized: bool) -> Limits:
        """Fill up with the defaults for models in FP32, or where one is in INT8."""
        given = {k: v for k, v in vars(self).items() if v is not None}
        return replace(INT8_LIMITS if quantized else FP32_LIMITS, **given)


def verify(
    reference: Path,
    candidate: Path,
    frames: Iterable[NDArray[np.uint8]],
    rule: Rule,
    gate: Gate,
    command: str = "",
) -> ParityReport:
    """Compare two model files on camera frames.

    Args:
        reference: A ``.safetensors`` checkpoint or an ``.onnx`` file of any precision.
        candidate: Likewise.
        frames: RGB images, uint8 (H, W, 3).
        rule: Which detections must have a partner.
        gate: What the report may find and still pass.
        command: What runs the comparison, for the report.

    Raises:
        UsageError: If a file is neither.
        ArtifactError: If a file is missing or damaged, or the models have other classes or inputs
            of another size.
    """
    a, b = open_runner(reference), open_runner(candidate)
    return ParityReport(
        figures=compare(a, b, frames, rule, names=(reference.name, candidate.name)),
        limits=gate.limits(quantized=a.is_quantized or b.is_quantized),
        threshold=rule.threshold,
        reference=reference.name,
        reference_sha256=model_sha256(reference),
        candidate=candidate.name,
        candidate_sha256=model_sha256(candidate),
        command=command,
    )


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
    _check_specs(a.spec, b.spec, names)
    views = _View(a), _View(b)
    pairs: list[Pairs] = []
    seen = non_finite = 0
    for frame in frames:
        seen += 1
        answers = [view.answer(frame) for view in views]
        broken = sum(answer.non_finite for answer in answers)
        if not broken:
            found = [answer.detections(rule.threshold - MARGIN) for answer in answers]
            pairs.append(match(found[0], found[1], rule, a.spec.max_detections))
        non_finite += broken
    return figures_from_pairs(pairs, seen, non_finite)


def figures_from_pairs(pairs: list[Pairs], frames: int, non_finite: int) -> Figures:
    """Join what was matched in each of ``frames`` frames."""
    matched = sum(len(p) for p in pairs)
    unmatched = sum(p.unmatched for p in pairs)
    box, score, overlap = (
        np.concatenate([np.zeros(0), *(getattr(p, name) for p in pairs)])
        for name in ("box_errors_px", "score_errors", "ious")
    )
    return Figures(
        frames=frames,
        matched=matched,
        unmatched=unmatched,
        unmatched_share=unmatched / max(1, matched + unmatched),
        max_box_error_px=float(box.max()) if matched else None,
        p99_box_error_px=float(np.percentile(box, 99)) if matched else None,
        max_score_error=float(score.max()) if matched else None,
        mean_score_error=float(score.mean()) if matched else None,
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
