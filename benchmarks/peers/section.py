"""The generated part of ``docs/benchmarks.md``: a table for each task, and where EdgeDETR loses."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from edgedetr.bench.result_file import age
from peers.rows import OURS

FASTER = 0.97
"""A peer that takes less than this share of the time is called faster."""


def peers_section(found: dict[str, Any]) -> list[str]:
    """Write the section, a line each.

    Args:
        found: The result of `benchmarks/peer_ratios.py`.
    """
    machine = found["machine"]
    lines = [
        f"`{found['command']}`{age(found)} on {machine['processor']}, {machine['cores']} cores,",
        f"{found['threads']} threads; medians of {found['rounds']} rounds in which all ways of a "
        "task took turns, with the 5th",
        "and 95th percentile of the ratio over the rounds. Above 1 EdgeDETR is faster.",
        "",
    ]
    for task, rows in groupby(found["rows"], key=lambda row: row["task"]):
        lines += [
            f"## {task[0].upper()}{task[1:]}",
            "",
            "| | ms | times ours | |",
            "|---|---|---|---|",
        ]
        lines += [_row(row) for row in rows]
        lines += [""]
    return [*lines, "## Where EdgeDETR loses", "", *_losses(found["rows"]), ""]


def _row(row: dict[str, Any]) -> str:
    if row["ms"] is None:
        return f"| {row['way']} | | | {row['note']} |"
    digits = 0 if row["ms"] >= 100 else 2
    spread = "" if row["way"] == OURS else f" ({row['low']:.2f} to {row['high']:.2f})"
    return f"| {row['way']} | {row['ms']:.{digits}f} | {row['ratio']:.2f}{spread} | {row['note']} |"


def _losses(rows: list[dict[str, Any]]) -> list[str]:
    """List the peers that are faster than one of our ways, the farthest ahead first."""
    found = []
    for task, group in groupby((r for r in rows if r["ms"]), key=lambda row: row["task"]):
        ways = list(group)
        peers = [w for w in ways if not w["way"].startswith(OURS)]
        for ours in (w for w in ways if w["way"].startswith(OURS)):
            ahead = [(p["ms"] / ours["ms"], p["way"]) for p in peers]
            found += [
                (ratio, f"- {task}: {way} takes {ratio:.2f} of the time of {ours['way']}.")
                for ratio, way in ahead
                if ratio < FASTER
            ]
    return [line for _, line in sorted(found)] or ["In none of these tasks a peer was faster."]
