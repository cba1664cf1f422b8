"""What a comparison of two models may and did find."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgedetr.export.activations import Activations
    from edgedetr.export.batch_parity import BatchCheck
    from edgedetr.export.evidence import Evidence
    from edgedetr.export.exact import Precision


@dataclass(frozen=True)
class Limits:
    """What a gate allows.

    Attributes:
        box_error_px: Farthest that a side of a box may move, in source pixels.
        score_error: Largest difference of two scores.
        unmatched_share: Largest share, in [0, 1], that detections without a partner may have among
            them and the pairs together.
        worst: Whether the limits of boxes and scores hold for every pair; otherwise for the 99th
            percentile of the boxes and the mean of the scores.
    """

    box_error_px: float
    score_error: float
    unmatched_share: float
    worst: bool


FP32_LIMITS = Limits(box_error_px=0.5, score_error=1e-3, unmatched_share=0.0, worst=True)
"""Where both models compute in FP32 they differ by rounding only."""
FP16_LIMITS = Limits(box_error_px=2.0, score_error=5e-3, unmatched_share=0.01, worst=True)
"""Where one computes in FP16 and none in INT8, eleven bits of every number are left."""
INT8_LIMITS = Limits(box_error_px=8.0, score_error=0.05, unmatched_share=0.1, worst=False)
"""Where one computes in INT8, single weak detections may come and go."""
LIMITS: dict[Precision, Limits] = {
    "fp32": FP32_LIMITS,
    "fp16": FP16_LIMITS,
    "int8": INT8_LIMITS,
}
"""By the coarser precision of two models, finest first."""


@dataclass(frozen=True)
class Figures:
    """What a comparison measured.

    The errors are None where nothing was matched.

    Attributes:
        frames: Images that both models saw.
        matched: Pairs of detections; see `edgedetr.export.matching.match`.
        unmatched: Detections of either model without a partner in the other.
        unmatched_share: Their share of pairs and unmatched together; 0 where there is neither.
        max_box_error_px: Farthest that a side of a box moved, in source pixels.
        p99_box_error_px: Its 99th percentile over the pairs.
        max_score_error: Largest difference of the scores of a pair.
        mean_score_error: Its mean over the pairs.
        mean_score_drop: Mean of the reference's score less the candidate's over the pairs.
        max_score_drop: The largest such drop; negative where every score rose.
        min_iou: Least overlap of a pair.
        non_finite: NaN and infinite numbers in the answers of both models. Frames with any are
            not matched.
    """

    frames: int
    matched: int
    unmatched: int
    unmatched_share: float
    max_box_error_px: float | None
    p99_box_error_px: float | None
    max_score_error: float | None
    mean_score_error: float | None
    mean_score_drop: float | None
    max_score_drop: float | None
    min_iou: float | None
    non_finite: int

    def summary(self) -> str:
        """Say it in a line."""
        return (
            f"{self.frames} frames: {self.matched} matched, {self.unmatched} unmatched, box error "
            f"at most {_text(self.max_box_error_px)} px, score error at most "
            f"{_text(self.max_score_error)}"
        )


@dataclass(frozen=True)
class ParityReport:
    """A comparison and its verdict.

    Attributes:
        figures: What was measured.
        limits: What the gate allowed.
        threshold: Lowest score of a detection that counted.
        reference: File name of the first model.
        reference_sha256: Hash of its bytes.
        candidate: File name of the second model.
        candidate_sha256: Hash of its bytes.
        command: What made the report.
        precisions: The coarsest numbers of the first and of the second model.
        batches: What models of a free or larger batch answered; empty where there is none.
        activations: What was found inside the graphs; None where nobody looked.
        evidence: The pairs behind the figures and the worst frames, for pages.
    """

    figures: Figures
    limits: Limits
    threshold: float
    reference: str
    reference_sha256: str
    candidate: str
    candidate_sha256: str
    command: str
    precisions: tuple[Precision, Precision] = ("fp32", "fp32")
    batches: tuple[BatchCheck, ...] = ()
    activations: Activations | None = None
    evidence: Evidence | None = field(default=None, compare=False, repr=False)

    @property
    def passed(self) -> bool:
        """Whether something was compared and every limit held."""
        return not self.reason

    @property
    def reason(self) -> str:
        """Say why the gate failed; empty where it did not."""
        found = self.figures
        if found.non_finite:
            failures = [f"{found.non_finite} numbers of the answers are not finite"]
        elif not found.matched + found.unmatched:
            failures = [
                f"no detection above {self.threshold:g} in any of {found.frames} frames: nothing "
                "was compared; lower --threshold"
            ]
        else:
            failures = [f"{row.name} {row.found}, allowed {row.limit}" for row in self._broken()]
            if found.unmatched_share > self.limits.unmatched_share:
                failures.insert(0, self._unmatched())
        failures += [check.reason for check in self.batches if check.reason]
        if self.activations is not None and self.activations.reason:
            failures.append(self.activations.reason)
        return "; ".join(failures)

    @property
    def departs(self) -> str:
        """Name the first block that departs by more than its precision explains, or nothing."""
        return self.activations.first_departing if self.activations else ""

    @property
    def rows(self) -> list[Row]:
        """Return every figure as it is read, with its limit."""
        found, allowed = self.figures, self.limits
        share = f"{found.unmatched} ({found.unmatched_share:.2%})"
        return [
            Row("frames", str(found.frames)),
            Row("matched", str(found.matched)),
            Row(
                "unmatched",
                share,
                f"{allowed.unmatched_share:.2%}",
                found.unmatched_share <= allowed.unmatched_share,
            ),
            *self._errors(),
            Row("mean score drop", _text(found.mean_score_drop)),
            Row("largest score drop", _text(found.max_score_drop)),
            Row("least IoU", _text(found.min_iou)),
            Row("not finite", str(found.non_finite), "0", not found.non_finite),
        ]

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON, the verdict first."""
        reference, candidate = self.precisions
        return {
            "passed": self.passed,
            "reason": self.reason,
            **asdict(self.figures),
            "limits": asdict(self.limits),
            "threshold": self.threshold,
            "reference": self.reference,
            "reference_sha256": self.reference_sha256,
            "reference_precision": reference,
            "candidate": self.candidate,
            "candidate_sha256": self.candidate_sha256,
            "candidate_precision": candidate,
            "command": self.command,
            "worst_frames": [] if self.evidence is None else self.evidence.worst_figures,
            "batches": [check.to_dict() for check in self.batches],
            "activations": None if self.activations is None else self.activations.to_dict(),
        }

    def summary(self) -> str:
        """Say it in a line."""
        closeness = "equal to" if self.limits.worst else "near"
        return f"{closeness} {self.reference} on {self.figures.summary()}"

    def table(self) -> str:
        """Say it in a short table, with the limit beside each figure that has one."""
        lines = [f"{'':<18}{'found':>14}{'limit':>10}"]
        lines += [f"{r.name:<18}{r.found:>14}{r.limit:>10}".rstrip() for r in self.rows]
        lines += [check.line for check in self.batches]
        if self.activations is not None:
            lines += self.activations.lines
        title = f"{self.candidate} against {self.reference}, scores from {self.threshold:g}"
        return "\n".join([title, *lines, "passed" if self.passed else f"FAILED: {self.reason}"])

    def _unmatched(self) -> str:
        found = self.figures
        return (
            f"{found.unmatched} of {found.matched + found.unmatched} detections have no "
            f"partner, allowed {self.limits.unmatched_share:.2%}"
        )

    def _broken(self) -> list[Row]:
        return [row for row in self._errors() if not row.holds]

    def _errors(self) -> list[Row]:
        """Return the errors; of boxes and of scores one has a limit."""
        found, allowed = self.figures, self.limits
        box, score = allowed.box_error_px, allowed.score_error
        at_worst, at_most = (box, None) if allowed.worst else (None, box)
        worst_score, mean_score = (score, None) if allowed.worst else (None, score)
        return [
            _row("worst box error", found.max_box_error_px, at_worst, " px"),
            _row("p99 box error", found.p99_box_error_px, at_most, " px"),
            _row("worst score error", found.max_score_error, worst_score),
            _row("mean score error", found.mean_score_error, mean_score),
        ]


@dataclass(frozen=True)
class Row:
    """A figure as it is read: what was found, its limit or nothing, and whether that holds."""

    name: str
    found: str
    limit: str = ""
    holds: bool = True


def _row(name: str, found: float | None, limit: float | None, unit: str = "") -> Row:
    holds = found is None or limit is None or found <= limit
    text = _text(found, digits=3 if holds else 4) + unit
    return Row(name, text, "" if limit is None else f"{limit:g}{unit}", holds)


def _text(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}g}"
