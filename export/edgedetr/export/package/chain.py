"""The chain of passed reports that every model needs, from a checkpoint or an import.

A checkpoint is what this project trained. An import is an FP32 ONNX model that others made: its
chain begins with its hash, and the package says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgedetr.runtime.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgedetr.export.package.candidate import Candidate
    from edgedetr.export.verify.record import VerifyRecord

CHAIN = "checks/chain.json"
"""Where a package says where the chains of its models begin."""
CHECKPOINT = ".safetensors"
"""Suffix of checkpoints."""


@dataclass(frozen=True)
class Start:
    """Where a chain begins.

    Attributes:
        name: File name.
        sha256: Hash of all its bytes.
        kind: ``import`` of what others made, or ``checkpoint``.
    """

    name: str
    sha256: str
    kind: Literal["checkpoint", "import"]


@dataclass(frozen=True)
class Chain:
    """The content of ``checks/chain.json``.

    Attributes:
        starts: Where the chains of a package's models begin.
        reports: Files in ``checks/`` that lead from there to the models.
    """

    starts: tuple[Start, ...]
    reports: tuple[str, ...]


def chain_starts(
    models: Sequence[Candidate],
    verdicts: Sequence[VerifyRecord],
    references: Sequence[Candidate],
) -> tuple[Start, ...]:
    """Return where the chains of models begin.

    That are the checkpoints of reports, FP32 models that hold no spec, because others made them,
    and those of ``references`` that no report leads to.

    Raises:
        GateError: If a reference is not FP32.
    """
    for reference in references:
        if reference.precision != "fp32":
            raise GateError(f"the reference {reference.path} is {reference.precision}, not FP32")
    found = {start.sha256: start for start in checkpoints(verdicts)}
    checked = reached(found, verdicts)
    foreign = [m for m in models if m.is_foreign and m.precision == "fp32"]
    for model in (*references, *foreign):
        if model.sha256 not in checked:
            found[model.sha256] = Start(model.path.name, model.sha256, "import")
    needed = reached({m.sha256 for m in models}, verdicts, backwards=True)
    return tuple(start for key, start in found.items() if key in needed)


def checkpoints(verdicts: Sequence[VerifyRecord]) -> tuple[Start, ...]:
    """Return the checkpoints that reports start from."""
    return tuple(
        Start(v.reference, v.reference_sha256, "checkpoint")
        for v in verdicts
        if v.reference.endswith(CHECKPOINT)
    )


def check_chain(
    models: Sequence[Candidate],
    verdicts: Sequence[VerifyRecord],
    starts: Sequence[Start],
    engines: Iterable[str] = (),
) -> tuple[str, ...]:
    """Require of every model a chain of passed reports from one of ``starts``.

    Args:
        models: What shall ship.
        verdicts: Reports, in any order.
        starts: Where chains may begin.
        engines: Hashes of engines that shall ship.

    Returns:
        Where the chains begin and what the reports say, a line each.

    Raises:
        GateError: If a report says no, is missing, or is about another model.
    """
    for verdict in verdicts:
        _check_passed(verdict)
    _check_all_concern({m.sha256 for m in models} | set(engines), verdicts)
    checked = reached({start.sha256 for start in starts}, verdicts)
    for model in models:
        if model.sha256 not in checked:
            _refuse_unchecked(model, verdicts)
    imports = tuple(
        f"{start.name} is an import: its chain begins with its SHA-256 {start.sha256}"
        for start in starts
        if start.kind == "import"
    )
    return imports + tuple(f"{v.candidate} against {v.reference}: {_line(v)}" for v in verdicts)


def reached(
    starts: Iterable[str], verdicts: Sequence[VerifyRecord], *, backwards: bool = False
) -> set[str]:
    """Return the models that reports lead to, from reference to candidate, by their hashes."""
    steps = [(v.reference_sha256, v.candidate_sha256) for v in verdicts]
    steps = [(b, a) for a, b in steps] if backwards else steps
    found = set(starts)
    while new := {b for a, b in steps if a in found} - found:
        found |= new
    return found


def _check_passed(verdict: VerifyRecord) -> None:
    if not verdict.passed:
        says = "does not find" if verdict.verdict == "failed" else "is not known to find"
        raise GateError(
            f"{verdict.path}: {verdict.candidate} {says} what {verdict.reference} "
            f"finds: {verdict.reason}; nothing was packaged"
        )


def _line(verdict: VerifyRecord) -> str:
    """Return what a report measured and which limits it held to, in one line."""
    report = verdict.report
    found, limits = report.figures, report.limits
    figures = {
        "frames": found.frames,
        "matched": found.matched,
        "unmatched": found.unmatched,
        "p99 box error px": found.p99_box_error_px,
        "mean score error": found.mean_score_error,
    }
    measured = ", ".join(f"{k} {v:.4g}" for k, v in figures.items() if v is not None)
    lost = f"{report.share.lost} lost"
    return (
        f"{measured}, {lost}; limits: scores from {report.threshold:g}, {limits.describe()}, at "
        f"most {limits.lost_share:.2%} lost"
    )


def _check_all_concern(packed: set[str], verdicts: Sequence[VerifyRecord]) -> None:
    """Stop at a report that is no step on the way to a packed model."""
    relevant = reached(packed, verdicts, backwards=True)
    for verdict in verdicts:
        if verdict.candidate_sha256 not in relevant:
            raise GateError(
                f"{verdict.path} is about another model: {verdict.candidate} "
                f"({verdict.candidate_sha256[:12]}...); run edgedetr verify again"
            )


def _refuse_unchecked(model: Candidate, verdicts: Sequence[VerifyRecord]) -> None:
    way = reached({model.sha256}, verdicts, backwards=True)
    begins = [v.reference for v in verdicts if v.candidate_sha256 in way]
    if begins:
        raise GateError(
            f"the reports about {model.path} start at {begins[-1]}, which has no report itself; "
            "give its report with --parity, or, where others made it, the FP32 model itself: "
            f"--reference {begins[-1]}"
        )
    path, fp32 = model.path, model.precision == "fp32"
    reference = f"CHECKPOINT{CHECKPOINT}" if fp32 else "REFERENCE"
    others = f"; where others made it: --reference {path}" if fp32 else ""
    raise GateError(
        f"{path} is {model.precision} and has no report; run edgedetr verify {reference} {path} "
        f"--json V.json and give --parity V.json{others}"
    )
