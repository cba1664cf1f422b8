"""Read back what ``edgedetr report`` wrote: which models it measured, and what was checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgedetr.export.verify.record import (
    read_objects,
    read_sha256,
    read_text,
    read_verdict,
)
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import read_json
from edgedetr.runtime.package.reader import MAX_JSON_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.export.verify.lost_share import Verdict

ACCURACY = "checks/report.json"
"""Where a package holds its report.json."""

_WORDS = ("passed", "failed", "undecided", "not compared")
_SHARES = ("ap", "ap50", "agreement_with_teacher")
_AMOUNTS = ("params_m", "gflops", "file_mib", "latency_ms", "model_latency_ms")


@dataclass(frozen=True)
class ReportRecord:
    """The part of ``report.json`` by which a model may ship.

    Attributes:
        path: The file.
        models: SHA-256 of every model that was measured, by its name, see
            `edgedetr.graph.checksum.model_sha256`.
        verdict: What all gates say together, in a word; empty in older reports.
        verdicts: What each check of two models said, by the name of its file.
    """

    path: Path
    models: dict[str, str]
    verdict: str
    verdicts: dict[str, Verdict]


def read_report_record(path: Path) -> ReportRecord:
    """Read a ``report.json``.

    Raises:
        ArtifactError: If it is missing, damaged, none, or from before reports held hashes; or if a
            figure is out of its range, or a comparison passed against its own figures.
    """
    try:
        values = read_json(path, MAX_JSON_BYTES)
        verdicts = {read_text(p, "name"): _verdict(p) for p in read_objects(values, "parity")}
        return ReportRecord(
            path=path,
            models=dict(_model(model) for model in read_objects(values, "models")),
            verdict=_joint_verdict(values, verdicts),
            verdicts=verdicts,
        )
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path} is no report.json of edgedetr report that names its models by SHA-256: "
            f"{error}; run edgedetr report again"
        ) from error


def _joint_verdict(values: dict[str, Any], verdicts: dict[str, Verdict]) -> str:
    verdict = read_text({"verdict": "", **values}, "verdict")
    if verdict not in {"", *_WORDS}:
        raise ValueError(f"'verdict' must be one of {', '.join(_WORDS)}, found {verdict!r:.80}")
    if verdict == "passed" and set(verdicts.values()) - {"passed"}:
        raise ValueError("it passed though a comparison in it did not")
    return verdict


def _model(values: dict[str, Any]) -> tuple[str, str]:
    """Return name and hash of a model whose figures are numbers of their range."""
    found = read_text(values, "name"), read_sha256(values, "sha256")
    for key in _SHARES:
        _check_range(key, values.get(key), 1.0)
    for key in _AMOUNTS:
        _check_range(key, values.get(key), float("inf"))
    _check_range("ap50_by_class", values.get("ap50_by_class"), 1.0)
    _check_range("kitti_ap40_moderate", values.get("kitti_ap40_moderate"), 100.0)
    return found


def _check_range(key: str, value: Any, most: float) -> None:  # noqa: ANN401 - whatever JSON holds
    """Stop unless a value, or each of an object, is a number from 0 to ``most``, or null."""
    for number in value.values() if isinstance(value, dict) else (value,):
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f"{key!r} must be a number, found {number!r:.80}")  # noqa: TRY004
        if not 0 <= number <= most:
            raise ValueError(f"{key!r} must lie in 0 to {most:g}, found {number}")


def _verdict(check: dict[str, Any]) -> Verdict:
    """Return the verdict of a comparison; one that passed must have figures within its limits."""
    verdict, figures = read_verdict(check), check.get("figures")
    if not isinstance(figures, dict):
        raise ValueError(f"'figures' must be an object, found {figures!r:.60}")  # noqa: TRY004
    if verdict != "passed":
        return verdict
    names = ("non_finite", "lost", "compared", "lost_share_high", "limit_of_lost_share")
    for name in names:
        _check_range(name, figures.get(name), float("inf"))
    broken, lost, compared, high, allowed = (figures.get(name) for name in names)
    if None in {broken, lost, compared, high, allowed} or not compared:
        raise ValueError(f"{check['name']} passed without figures")
    if broken or (lost if not allowed else high > allowed):
        raise ValueError(
            f"{check['name']} says that it passed, its figures say that it did not: {lost} lost, "
            f"upper bound {high}, allowed {allowed}, {broken} not finite"
        )
    return verdict
