"""What changed from one report to another: the same figures of the models that both have."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgedetr.bench.report.record import ReportRecord

_SHOWN = (
    "ap",
    "ap50",
    "agreement_with_teacher",
    "latency_ms.p50",
    "latency_ms.p99",
    "file_mib",
    "params_m",
    "gflops",
)


def changes_dict(old: ReportRecord, new: ReportRecord) -> dict[str, object]:
    """Return what `changes` shows, and every other figure that both have, as it is written to JSON.

    ``models`` has the old and the new value by model and figure, ``notes`` the rest as text.
    """
    return {
        "models": {
            name: {
                figure: {"old": value, "new": new.models[name][figure]}
                for figure, value in figures.items()
                if figure in new.models[name]
            }
            for name, figures in old.models.items()
            if name in new.models
        },
        "notes": _notes(old, new),
    }


def changes(old: ReportRecord, new: ReportRecord) -> str:
    """Return a table of the models of both reports: old value, new value, difference.

    Below it stand what only one report has, and why figures may not be comparable.
    """
    rows = [["model", "figure", "old", "new", "change"]]
    for name in (n for n in old.models if n in new.models):
        before, after = old.models[name], new.models[name]
        shown = [f for f in _SHOWN if f in before and f in after]
        rows += [[name, f, *_cells(before[f], after[f])] for f in shown]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([*map(str.ljust, row[:2], widths), *map(str.rjust, row[2:], widths[2:])])
        for row in rows
    ]
    return "\n".join([*lines, *_notes(old, new)])


def _cells(before: float, after: float) -> tuple[str, str, str]:
    change = after - before
    share = f" ({change / before:+.1%})" if before else ""
    return f"{before:.4g}", f"{after:.4g}", f"{change:+.4g}{share}"


def _notes(old: ReportRecord, new: ReportRecord) -> list[str]:
    notes = []
    for record, other in ((old, new), (new, old)):
        only = [name for name in record.models if name not in other.models]
        if only:
            notes.append(f"only in {record.path}: {', '.join(only)}")
    if old.verdict != new.verdict:
        notes.append(f"the verdict was {old.verdict} and is {new.verdict}")
    if (old.data, old.frames) != (new.data, new.frames):
        notes.append(
            f"accuracy is of other frames: {old.frames} of {old.data}, then {new.frames} of "
            f"{new.data}"
        )
    if old.machine != new.machine:
        notes.append(f"times are of other machines: {old.machine}, then {new.machine}")
    return notes
