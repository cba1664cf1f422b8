"""``edgedetr runs``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgedetr.runtime.commands.options import PATH
from edgedetr.runtime.commands.output import echo
from edgedetr.runtime.files import write_text
from edgedetr.runtime.printable import printable

SORTS = ("date", "name", "state", "steps", "ap")


@click.command()
@click.argument("folder", type=PATH, default=Path("runs"), metavar="[DIR]")
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    default="date",
    show_default=True,
    help="Sort key; the newest, furthest or best run comes first.",
)
@click.option("--json", "out", type=PATH, help="Write the figures to this file.")
def runs(folder: Path, sort: str, out: Path | None) -> None:
    """List the training runs in DIR (runs) and below it with their key figures."""
    from edgedetr.distill.training.run_listing import as_text, listed, sorted_by

    found = sorted_by(listed(folder), sort)
    if out:
        write_text(out, json.dumps([run.as_dict() for run in found], indent=1) + "\n")
    for line in as_text(found):
        echo(line)
    for run in found:
        if run.problem:
            echo(printable(f"{run.folder}: {run.problem}"), err=True)
