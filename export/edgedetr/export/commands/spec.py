"""``edgedetr spec``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgedetr.runtime.commands.options import PATH
from edgedetr.runtime.commands.output import echo
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, help="File to write; printed if not given.")
def spec(model: Path, output: Path | None) -> None:
    """Draft the spec of MODEL, an ONNX file from elsewhere, and mark what is a guess.

    MODEL is run once on a generated image; docs/specs.md explains the keys.
    """
    from edgedetr.export.spec_draft import draft_spec
    from edgedetr.runtime.files import write_text

    if output and output.exists():
        raise UsageError(f"{output} exists; remove it or name another file")
    draft = draft_spec(model)
    if not output:
        echo(draft.toml(), nl=False)
        return
    write_text(output, draft.toml())
    for key, guess in draft.unsure.items():
        echo(f"unsure about {key}: {guess}", err=True)
    echo(printable(f"{output}: {len(draft.keys)} keys, {len(draft.unsure)} to check"))
