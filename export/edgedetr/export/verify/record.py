"""Read a report of ``edgedetr verify --json``: the verdict, the figures, and which two models."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from edgedetr.export.verify.lost_share import Verdict
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import read_json
from edgedetr.runtime.package.reader import MAX_JSON_BYTES

if TYPE_CHECKING:
    from pathlib import Path

_ROLES = ("reference", "candidate")
_NO_FIGURES = {"passed", "verdict", "command", *_ROLES, *(f"{role}_sha256" for role in _ROLES)}


@dataclass(frozen=True)
class VerifyRecord:
    """What ``edgedetr verify`` found of two models.

    Attributes:
        path: The file.
        verdict: ``undecided`` where the frames did not suffice for either verdict.
        reason: Why it is not ``passed``; empty where it is.
        reference: File name of the first model.
        reference_sha256: Hash of all its bytes, see `edgedetr.graph.checksum.model_sha256`.
        candidate: File name of the second model.
        candidate_sha256: Hash of all its bytes.
        command: The command that made it; may be empty.
        frames: Images that both models ran on; None in a file without it, as those below.
        matched: Pairs of detections.
        unmatched: Detections of either model without a match.
        p99_box_error_px: 99th percentile of the box errors, in source pixels.
        mean_score_error: Mean of the score errors.
        figures: All numbers and texts of the file in its order, then the limits of the gate as
            ``limit_of_NAME``, for tables.
    """

    path: Path
    verdict: Verdict
    reason: str
    reference: str
    reference_sha256: str
    candidate: str
    candidate_sha256: str
    command: str
    frames: int | None
    matched: int | None
    unmatched: int | None
    p99_box_error_px: float | None
    mean_score_error: float | None
    figures: dict[str, str | float]

    @property
    def passed(self) -> bool:
        """Whether the candidate is known to keep the detections of the reference."""
        return self.verdict == "passed"


def read_verify_record(path: Path) -> VerifyRecord:
    """Read a report of ``edgedetr verify --json``.

    Raises:
        ArtifactError: If it is missing, damaged, too large, contradicts itself, or is none.
    """
    try:
        values = read_json(path, MAX_JSON_BYTES)
        names = [read_text(values, role) for role in _ROLES]
        hashes = [_hash(values, f"{role}_sha256") for role in _ROLES]
        return VerifyRecord(
            path=path,
            verdict=read_verdict(values),
            reason=read_text(values, "reason"),
            reference=names[0],
            reference_sha256=hashes[0],
            candidate=names[1],
            candidate_sha256=hashes[1],
            command=read_text(values, "command") if "command" in values else "",
            frames=_count(values, "frames"),
            matched=_count(values, "matched"),
            unmatched=_count(values, "unmatched"),
            p99_box_error_px=_number(values, "p99_box_error_px"),
            mean_score_error=_number(values, "mean_score_error"),
            figures=_figures(values),
        )
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path} is no report of edgedetr verify --json: {error}; run edgedetr verify again"
        ) from error


def read_verdict(values: dict[str, Any]) -> Verdict:
    """Read ``verdict``, or in files without it ``passed``.

    Raises:
        ValueError: If neither is there, one is of another type, or they contradict each other.
    """
    passed = values.get("passed", values.get("verdict") == "passed")
    verdict = values.get("verdict", "passed" if passed else "failed")
    if not isinstance(passed, bool) or not {"passed", "verdict"} & set(values):
        raise ValueError(f"'passed' must be true or false, found {values.get('passed')!r}")
    if verdict not in get_args(Verdict) or passed != (verdict == "passed"):
        raise ValueError(f"the verdict {verdict!r} does not go with 'passed': {passed}")
    name: Verdict = verdict
    return name


def read_text(values: dict[str, Any], key: str) -> str:
    """Read a text; raises ValueError where there is none."""
    text = values.get(key)
    if not isinstance(text, str):
        raise ValueError(f"{key!r} must be a text, found {text!r}")  # noqa: TRY004
    return text


def _hash(values: dict[str, Any], key: str) -> str:
    text = read_text(values, key)
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError(f"{key!r} must be a SHA-256, found {text!r}")
    return text


def _count(values: dict[str, Any], key: str) -> int | None:
    count = values.get(key)
    if count is None or (isinstance(count, int) and not isinstance(count, bool)):
        return count
    raise ValueError(f"{key!r} must be a whole number, found {count!r}")


def _number(values: dict[str, Any], key: str) -> float | None:
    number = values.get(key)
    if number is None or (isinstance(number, int | float) and not isinstance(number, bool)):
        return number
    raise ValueError(f"{key!r} must be a number, found {number!r}")


def _figures(values: dict[str, Any]) -> dict[str, str | float]:
    limits = values.get("limits", {})
    if not isinstance(limits, dict):
        raise ValueError(f"'limits' must be an object, found {limits!r}")  # noqa: TRY004
    figures = {k: v for k, v in values.items() if k not in _NO_FIGURES and _is_plain(v)}
    return figures | {f"limit_of_{k}": v for k, v in limits.items() if _is_plain(v)}


def _is_plain(value: object) -> bool:
    """Tell whether a value is a number or a text that is not empty."""
    return isinstance(value, str | float | int) and not isinstance(value, bool) and value != ""
