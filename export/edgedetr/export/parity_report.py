"""What a comparison of two models may and did find."""

from __future__ import annotations

from dataclasses import asdict, dataclass


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
INT8_LIMITS = Limits(box_error_px=8.0, score_error=0.05, unmatched_share=0.1, worst=False)
"""Where one computes in INT8, single weak detections may come and go."""


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
    """

    figures: Figures
    limits: Limits
    threshold: float
    reference: str
    reference_sha256: str
    candidate: str
    candidate_sha256: str
    command: str

    @property
    def passed(self) -> bool:
        """Whether something was compared and every limit held."""
        return not self.reason

    @property
    def reason(self) -> str:
        """Say why the gate failed; empty where it did not."""
        found, allowed = self.figures, self.limits
        if found.non_finite:
            return f"{found.non_finite} numbers of the answers are not finite"
        if not found.matched + found.unmatched:
            return (
                f"no detection above {self.threshold:g} in any of {found.frames} frames: nothing "
                "was compared; lower --threshold"
            )
        failures = []
        if found.unmatched_share > allowed.unmatched_share:
            failures.append(
                f"{found.unmatched} of {found.matched + found.unmatched} detections have no "
                f"partner, allowed {allowed.unmatched_share:.2%}"
            )
        failures += [
            f"{name} {error:.4g}{unit}, allowed {limit:g}{unit}"
            for name, error, limit, unit in self._limited_errors()
            if error is not None and error > limit
        ]
        return "; ".join(failures)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON, the verdict first."""
        values = asdict(self)
        figures = values.pop("figures")
        return {"passed": self.passed, "reason": self.reason, **figures, **values}

    def summary(self) -> str:
        """Say it in a line."""
        closeness = "equal to" if self.limits.worst else "near"
        return f"{closeness} {self.reference} on {self.figures.summary()}"

    def table(self) -> str:
        """Say it in a short table, with the limit beside each figure that has one."""
        found, allowed = self.figures, self.limits
        limits = {name: f"{limit:g}" for name, _, limit, _ in self._limited_errors()}
        rows = {
            "frames": str(found.frames),
            "matched": str(found.matched),
            "unmatched": f"{found.unmatched} ({found.unmatched_share:.2%})",
            "worst box error": f"{_text(found.max_box_error_px)} px",
            "p99 box error": f"{_text(found.p99_box_error_px)} px",
            "worst score error": _text(found.max_score_error),
            "mean score error": _text(found.mean_score_error),
            "least IoU": _text(found.min_iou),
            "not finite": str(found.non_finite),
        }
        limits |= {"unmatched": f"{allowed.unmatched_share:.2%}", "not finite": "0"}
        lines = [f"{'':<18}{'found':>14}{'limit':>10}"]
        lines += [f"{k:<18}{v:>14}{limits.get(k, ''):>10}".rstrip() for k, v in rows.items()]
        title = f"{self.candidate} against {self.reference}, scores from {self.threshold:g}"
        return "\n".join([title, *lines, "passed" if self.passed else f"FAILED: {self.reason}"])

    def _limited_errors(self) -> list[tuple[str, float | None, float, str]]:
        """Name the errors that have a limit: (name, found, limit, unit)."""
        found, allowed = self.figures, self.limits
        if allowed.worst:
            return [
                ("worst box error", found.max_box_error_px, allowed.box_error_px, " px"),
                ("worst score error", found.max_score_error, allowed.score_error, ""),
            ]
        return [
            ("p99 box error", found.p99_box_error_px, allowed.box_error_px, " px"),
            ("mean score error", found.mean_score_error, allowed.score_error, ""),
        ]


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
