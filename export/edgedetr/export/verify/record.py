"""Read a report of ``edgedetr verify --json``: its figures are read, its verdict is computed again.

A file says what was measured, with which limits, and what that means. The last is not believed: a
`ParityReport` is rebuilt from figures and limits, and what it says must be what the file says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

from edgedetr.export.verify.activations import Activations
from edgedetr.export.verify.batches import LOST_OF_ROW, BatchCheck
from edgedetr.export.verify.block_errors import EXPLAINED, BlockError
from edgedetr.export.verify.difference import Difference
from edgedetr.export.verify.figures import Figures
from edgedetr.export.verify.limits import Limits
from edgedetr.export.verify.lost_share import ERROR_RATE, LostShare, Verdict, lost_share
from edgedetr.export.verify.report import ParityReport
from edgedetr.export.verify.scan import Scan
from edgedetr.graph.exact import Precision
from edgedetr.runtime.errors import ArtifactError, SettingsError
from edgedetr.runtime.files import read_json
from edgedetr.runtime.package.reader import MAX_JSON_BYTES
from edgedetr.runtime.settings import settings_from_dict

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

_ROLES = ("reference", "candidate")
_NO_FIGURES = {"passed", "verdict", "command", *_ROLES, *(f"{role}_sha256" for role in _ROLES)}
_ROUNDING = 1e-6  # boxes and scores are compared with the limits as float32


@dataclass(frozen=True)
class VerifyRecord:
    """What ``edgedetr verify`` found of two models.

    Attributes:
        path: The file.
        report: The report that its figures and limits make; without evidence, and with the bounds
            of the share as they were measured.
        reason: Why it did not pass, as the file says it; empty where it did.
        figures: All numbers and texts of the file in its order, then the limits of the gate as
            ``limit_of_NAME``, for tables.
    """

    path: Path
    report: ParityReport
    reason: str
    figures: dict[str, str | float]

    @property
    def verdict(self) -> Verdict:
        """What the figures say; ``undecided`` where the frames did not suffice for either."""
        return self.report.verdict

    @property
    def passed(self) -> bool:
        """Whether the candidate is known to keep the detections of the reference."""
        return self.report.passed

    @property
    def reference(self) -> str:
        """File name of the first model."""
        return self.report.reference

    @property
    def reference_sha256(self) -> str:
        """Hash of all bytes of the first model, see `edgedetr.graph.checksum.model_sha256`."""
        return self.report.reference_sha256

    @property
    def candidate(self) -> str:
        """File name of the second model."""
        return self.report.candidate

    @property
    def candidate_sha256(self) -> str:
        """Hash of all bytes of the second model."""
        return self.report.candidate_sha256

    @property
    def command(self) -> str:
        """The command that made it."""
        return self.report.command


@dataclass(frozen=True)
class _Share:
    """The share of lost detections as it is stored."""

    lost: int
    compared: int
    lost_share: float
    lost_share_low: float
    lost_share_high: float
    error_rate: float


@dataclass(frozen=True)
class _Block:
    """The error of a block as it is stored; see `BlockError.to_dict`."""

    block: str
    precision: Precision
    tensors: int
    worst_tensor: str
    carried: float | None
    own_relative_error: float | None
    own_cosine: float
    explained: float
    departs: bool


def read_verify_record(path: Path) -> VerifyRecord:
    """Read a report of ``edgedetr verify --json``.

    Raises:
        ArtifactError: If it is missing, damaged, too large or none, its figures contradict each
            other, or its verdict is not what they say.
    """
    try:
        values = read_json(path, MAX_JSON_BYTES)
        report = _report(values)
        _check_figures(report.figures, report.share, report.limits)
        _check_bounds(report.share)
        reason = read_text(values, "reason")
        _check_said(read_verdict(values), reason, report)
    except (OSError, ValueError, SettingsError) as error:
        raise ArtifactError(
            f"{path} is no report of edgedetr verify --json: {error}; run edgedetr verify again"
        ) from error
    return VerifyRecord(path, report, reason, _listed(values))


def read_verdict(values: dict[str, Any]) -> Verdict:
    """Read ``verdict`` and ``passed``.

    Raises:
        ValueError: If one is missing or of another type, or they contradict each other.
    """
    passed, verdict = values.get("passed"), values.get("verdict")
    if not isinstance(passed, bool):
        raise ValueError(f"'passed' must be true or false, found {passed!r}")  # noqa: TRY004
    if verdict not in get_args(Verdict) or passed != (verdict == "passed"):
        raise ValueError(f"the verdict {verdict!r} does not go with 'passed': {passed}")
    return cast("Verdict", verdict)


def read_text(values: dict[str, Any], key: str) -> str:
    """Read a text; raises ValueError where there is none."""
    text = values.get(key)
    if not isinstance(text, str):
        raise ValueError(f"{key!r} must be a text, found {text!r:.80}")  # noqa: TRY004
    return text


def read_sha256(values: dict[str, Any], key: str) -> str:
    """Read a SHA-256; raises ValueError where there is none."""
    text = read_text(values, key)
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError(f"{key!r} must be a SHA-256, found {text!r:.80}")
    return text


def read_objects(values: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Read a list of objects; raises ValueError where there is none."""
    found = values.get(key)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError(f"{key!r} must be a list of objects, found {found!r:.60}")
    return found


def _report(values: dict[str, Any]) -> ParityReport:
    """Rebuild the report from what was measured."""
    figures, stored = _part(Figures, values, "figures"), _part(_Share, values, "figures")
    limits = settings_from_dict(Limits, values.get("limits", {}), "limits")
    reference, candidate = (_precision(values, f"{role}_precision") for role in _ROLES)
    _check_share(stored.lost_share, stored.lost, stored.compared)
    _check_share(figures.unmatched_share, figures.unmatched, stored.compared)
    threshold = values.get("threshold")
    if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise ValueError(f"'threshold' must be a number from 0 to 1, found {threshold!r:.80}")
    return ParityReport(
        figures=figures,
        share=LostShare(
            lost=stored.lost,
            compared=stored.compared,
            frames=figures.frames,
            effective=float(stored.compared),
            low=stored.lost_share_low,
            high=stored.lost_share_high,
            error_rate=stored.error_rate,
        ),
        limits=limits,
        threshold=float(threshold),
        reference=read_text(values, "reference"),
        reference_sha256=read_sha256(values, "reference_sha256"),
        candidate=read_text(values, "candidate"),
        candidate_sha256=read_sha256(values, "candidate_sha256"),
        command=read_text(values, "command"),
        precisions=(reference, candidate),
        batches=tuple(_batch(check) for check in read_objects(values, "batches")),
        activations=_activations(values.get("activations")),
    )


def _precision(values: dict[str, Any], key: str) -> Precision:
    text = read_text(values, key)
    if text not in EXPLAINED:
        raise ValueError(f"{text!r:.80} is no precision")
    return text


def _check_share(share: float, part: int, whole: int) -> None:
    if abs(share - part / max(1, whole)) > _ROUNDING:
        raise ValueError(f"{part} of {whole} detections are no share of {share:g}")


def _part(kind: type[T], values: dict[str, Any], source: str) -> T:
    """Fill a dataclass from those of the values that are its own."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return settings_from_dict(kind, {k: values[k] for k in names if k in values}, source)


def _batch(values: dict[str, Any]) -> BatchCheck:
    check = settings_from_dict(BatchCheck, values, "batches")
    if check.holds and (check.non_finite or check.lost > LOST_OF_ROW * check.compared):
        raise ValueError(f"a batch of {check.size} cannot hold with {check.lost} detections lost")
    return check


def _activations(values: Any) -> Activations | None:  # noqa: ANN401 - whatever JSON can hold
    if values is None:
        return None
    if not isinstance(values, dict):
        raise ValueError(f"'activations' must be an object, found {values!r:.60}")  # noqa: TRY004
    faults = values.get("quantizer_faults", [])
    if not isinstance(faults, list) or not all(isinstance(fault, str) for fault in faults):
        raise ValueError(f"'quantizer_faults' must be a list of texts, found {faults!r:.60}")
    return Activations(
        frames=0,
        scans=tuple(
            settings_from_dict(Scan, found, "scans") for found in read_objects(values, "scans")
        ),
        blocks=tuple(_block(_part(_Block, b, "blocks")) for b in read_objects(values, "blocks")),
        note=read_text(values, "note"),
        quantizer_faults=tuple(faults),
    )


def _block(stored: _Block) -> BlockError:
    own = float("inf") if stored.own_relative_error is None else stored.own_relative_error
    block = BlockError(
        block=stored.block,
        precision=stored.precision,
        tensors=stored.tensors,
        worst_tensor=stored.worst_tensor,
        own=Difference(own, stored.own_cosine),
        limit=stored.explained,
        carried=stored.carried,
    )
    if not 0 <= block.limit <= EXPLAINED[block.precision] or block.diverges != stored.departs:
        raise ValueError(f"the block {block.block!r:.80} has an error that contradicts its verdict")
    return block


def _check_figures(found: Figures, share: LostShare, limits: Limits) -> None:
    """Stop at figures that no comparison can have, alone or beside each other."""
    counts = {"matched": found.matched, "unmatched": found.unmatched, "lost": share.lost}
    counts |= {"non_finite": found.non_finite, "tied_frames": found.tied_frames}
    if low := [name for name, count in counts.items() if count < 0]:
        raise ValueError(f"{low[0]!r} must not be negative, found {counts[low[0]]}")
    if found.frames < 1 or found.tied_frames > found.frames:
        raise ValueError(f"{found.frames} frames, {found.tied_frames} of them tied, cannot be")
    if share.compared != found.matched + found.unmatched or share.lost > share.compared:
        raise ValueError(
            f"{found.matched} matched, {found.unmatched} unmatched and {share.lost} lost do not "
            f"make {share.compared} compared"
        )
    if min(limits.score_error, limits.lost_share, limits.iou, limits.box_error_px or 0) < 0:
        raise ValueError("a limit must not be negative")
    errors = (found.max_box_error_px, found.max_score_error, found.min_iou)
    if any((error is None) != (not found.matched) for error in errors):
        raise ValueError("there must be errors where detections were matched, and nowhere else")
    apart = found.matched and _is_beyond(found, limits)
    if share.lost < found.unmatched + bool(apart):
        raise ValueError(
            f"{share.lost} lost cannot be: {found.unmatched} are unmatched"
            + (", and the worst pair is beyond the limits" if apart else "")
        )
    _check_order(found)


def _is_beyond(found: Figures, limits: Limits) -> bool:
    """Tell whether the worst figures of pairs are beyond the limits of a pair."""
    box = limits.box_error_px
    return (
        (found.min_iou or 0.0) < limits.iou - _ROUNDING
        or (found.max_score_error or 0.0) > limits.score_error + _ROUNDING
        or (box is not None and (found.max_box_error_px or 0.0) > box * (1 + _ROUNDING))
    )


def _check_order(found: Figures) -> None:
    """Stop where a mean or percentile is above its maximum, or a ratio is none."""
    pairs = (
        ("p99_box_error_px", found.p99_box_error_px, found.max_box_error_px),
        ("mean_score_error", found.mean_score_error, found.max_score_error),
        ("max_score_drop", found.max_score_drop, found.max_score_error),
        ("min_iou", found.min_iou, 1.0),
        ("max_score_error", found.max_score_error, 1.0),
    )
    for name, value, most in pairs:
        if value is not None and (most is None or value > most * (1 + _ROUNDING) + _ROUNDING):
            raise ValueError(f"{name!r} cannot be {value:g}, above {most}")


def _check_bounds(share: LostShare) -> None:
    """Stop at bounds that are closer together than so many frames and detections allow at best."""
    if not 0 < share.error_rate <= ERROR_RATE:
        raise ValueError(f"'error_rate' must be at most {ERROR_RATE}, found {share.error_rate:g}")
    if not 0 <= share.low <= share.share <= share.high <= 1:
        raise ValueError("the share of lost detections must lie between its bounds")
    frames = min(share.frames, share.compared)
    if not frames:
        return
    even = [part / frames for part in (share.lost, share.compared)]
    best = lost_share([even[0]] * frames, [even[1]] * frames, share.error_rate)
    if share.high < best.high - _ROUNDING:
        raise ValueError(
            f"an upper bound of {share.high:.2%} cannot be: {share.frames} frames with "
            f"{share.compared} detections give {best.high:.2%} at best"
        )


def _check_said(verdict: Verdict, reason: str, report: ParityReport) -> None:
    """Stop where a file says another verdict than its figures."""
    if verdict != report.verdict:
        why = f" ({report.reason})" if report.reason else ""
        raise ValueError(f"it says {verdict!r}, its figures and limits say {report.verdict!r}{why}")
    if bool(reason) == report.passed:
        raise ValueError(f"the reason {reason!r:.80} does not go with the verdict {verdict!r}")


def _listed(values: dict[str, Any]) -> dict[str, str | float]:
    figures = {k: v for k, v in values.items() if k not in _NO_FIGURES and _is_plain(v)}
    return figures | {f"limit_of_{k}": v for k, v in values["limits"].items() if _is_plain(v)}


def _is_plain(value: object) -> bool:
    """Tell whether a value is a number or a text that is not empty."""
    return isinstance(value, str | float | int) and not isinstance(value, bool) and value != ""
