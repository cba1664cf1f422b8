"""The parity report of two models: figures, limits, verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from edgedetr.export.verify.figures import as_text, counted

if TYPE_CHECKING:
    from edgedetr.export.verify.activations import Activations
    from edgedetr.export.verify.batches import BatchCheck
    from edgedetr.export.verify.figures import Figures
    from edgedetr.export.verify.findings import Evidence
    from edgedetr.export.verify.limits import Limits
    from edgedetr.export.verify.lost_share import LostShare, Verdict
    from edgedetr.graph.exact import Precision


@dataclass(frozen=True)
class ParityReport:
    """A comparison of two models and its verdict.

    Attributes:
        figures: What was measured.
        share: The share of lost detections, with its bounds.
        limits: The limits of the gate.
        threshold: Lowest score of a detection that counted.
        reference: File name of the first model.
        reference_sha256: Hash of its bytes.
        candidate: File name of the second model.
        candidate_sha256: Hash of its bytes.
        command: The command that made the report.
        precisions: The coarsest precision of the first and of the second model.
        batches: The batch checks of models of a free or larger batch; empty where there is none.
        activations: How the activations of the graphs compare; None where they were not compared.
        evidence: The pairs behind the figures and the worst frames, for pages.
    """

    figures: Figures
    share: LostShare
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
    def verdict(self) -> Verdict:
        """Whether the candidate keeps the reference's detections, as far as frames can tell."""
        if self._faults():
            return "failed"
        if not self.limits.exact:
            return self.share.verdict(self.limits.lost_share)
        if not self.share.compared:
            return "undecided"
        return "failed" if self.share.lost else "passed"

    @property
    def passed(self) -> bool:
        """Whether something was compared and every limit held."""
        return self.verdict == "passed"

    @property
    def reason(self) -> str:
        """Return why the gate did not pass; empty where it did."""
        reasons = self._faults()
        if not self.figures.non_finite:
            reasons = [*self._of_share(), *reasons]
        return "; ".join(reasons)

    @property
    def frames_needed(self) -> int | None:
        """Roughly how many more frames would decide; None where it is decided or none would."""
        if self.verdict != "undecided":
            return None
        return self.share.frames_needed(self.limits.lost_share)

    @property
    def first_diverging(self) -> str:
        """Name the first block whose own error is beyond its limit, or nothing."""
        return self.activations.first_diverging if self.activations else ""

    @property
    def rows(self) -> list[FigureRow]:
        """Return every figure as text, with its limit."""
        found, allowed, share = self.figures, self.limits, self.share
        exact = allowed.exact
        bounds = "" if exact else f", {share.low:.2%} to {share.high:.2%}"
        holds = not share.lost if exact else share.verdict(allowed.lost_share) == "passed"
        return [
            FigureRow("frames", str(found.frames)),
            FigureRow("tied frames", str(found.tied_frames)),
            FigureRow("matched", str(found.matched)),
            FigureRow("unmatched", f"{found.unmatched} ({found.unmatched_share:.2%})"),
            FigureRow(
                "lost",
                f"{share.lost} ({share.share:.2%}{bounds})",
                f"{allowed.lost_share:.2%}",
                holds,
            ),
            _row("max box error", found.max_box_error_px, allowed.box_error_px, " px"),
            _row("p99 box error", found.p99_box_error_px, None, " px"),
            _row("max score error", found.max_score_error, allowed.score_error if exact else None),
            _row("mean score error", found.mean_score_error, None),
            FigureRow("mean score drop", as_text(found.mean_score_drop)),
            FigureRow("max score drop", as_text(found.max_score_drop)),
            FigureRow("min IoU", as_text(found.min_iou)),
            FigureRow("non-finite values", str(found.non_finite), "0", not found.non_finite),
        ]

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON, the verdict first."""
        reference, candidate = self.precisions
        return {
            "passed": self.passed,
            "verdict": self.verdict,
            "reason": self.reason,
            **asdict(self.figures),
            "compared": self.share.compared,
            "lost": self.share.lost,
            "lost_share": self.share.share,
            "lost_share_low": self.share.low,
            "lost_share_high": self.share.high,
            "error_rate": self.share.error_rate,
            "frames_needed": self.frames_needed,
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
        """Summarize the comparison in a line."""
        if self.limits.exact:
            return f"equal to {self.reference} on {self.figures.summary()}"
        return f"close to {self.reference} on {self.figures.summary()}; {self.share.describe()}"

    def table(self) -> str:
        """Return the figures as a table, with the limit beside each that has one."""
        width = max(len(row.found) for row in self.rows)
        lines = [f"{'':<20}{'found':>{width}}{'limit':>10}"]
        lines += [f"{r.name:<20}{r.found:>{width}}{r.limit:>10}".rstrip() for r in self.rows]
        lines += [check.line for check in self.batches]
        if self.activations is not None:
            lines += self.activations.lines
        title = (
            f"{self.candidate} against {self.reference}, score threshold {self.threshold:g}; a "
            f"detection without a match ({self.limits.describe()}) is lost"
        )
        verdict = self.verdict if self.passed else f"{self.verdict.upper()}: {self.reason}"
        return "\n".join([title, *lines, verdict])

    def _faults(self) -> list[str]:
        """Return the faults that fail the gate, whatever the share."""
        faults = [check.reason for check in self.batches if check.reason]
        if self.figures.non_finite:
            faults.insert(0, f"{counted(self.figures.non_finite, 'output value')} not finite")
        if self.activations is not None and self.activations.reason:
            faults.append(self.activations.reason)
        return faults

    def _of_share(self) -> list[str]:
        """Return why the share of lost detections does not pass."""
        found, share = self.figures, self.share
        if not share.compared:
            return [
                f"no detection above {self.threshold:g} in {counted(found.frames, 'frame')}, so "
                "nothing was compared; lower --threshold"
            ]
        if self.limits.exact:
            return [self._exact_loss()] if share.lost else []
        verdict = share.verdict(self.limits.lost_share)
        if verdict == "passed":
            return []
        text = f"{share.describe()}, allowed {self.limits.lost_share:.2%}"
        if verdict == "failed":
            return [text]
        more = share.frames_needed(self.limits.lost_share)
        if not more:
            return [f"{text}; more frames would not decide"]
        return [f"{text}; about {counted(more, 'more frame')} would decide"]

    def _exact_loss(self) -> str:
        """Return what is lost where nothing may be, and how far the pairs are apart."""
        found, allowed = self.figures, self.limits
        rows = (
            _row("max box error", found.max_box_error_px, allowed.box_error_px, " px"),
            _row("max score error", found.max_score_error, allowed.score_error),
        )
        errors = [f"{row.name} {row.found}, allowed {row.limit}" for row in rows if not row.holds]
        if found.unmatched:
            compared = found.matched + found.unmatched
            errors.insert(0, f"{found.unmatched} of {counted(compared, 'detection')} unmatched")
        return "; ".join(errors)


@dataclass(frozen=True)
class FigureRow:
    """A figure as text: its name, what was found, its limit or nothing, and whether that holds."""

    name: str
    found: str
    limit: str = ""
    holds: bool = True


def _row(name: str, found: float | None, limit: float | None, unit: str = "") -> FigureRow:
    holds = found is None or limit is None or found <= limit
    text = as_text(found, digits=3 if holds else 4) + unit
    return FigureRow(name, text, "" if limit is None else f"{limit:g}{unit}", holds)
