"""``edgedetr calib sensitivity``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import click

from edgedetr.runtime.commands.options import (
    PATH,
    command_line,
    format_option,
    require_apart,
    spec_option,
)
from edgedetr.runtime.commands.output import echo
from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.runtime.spec import ModelSpec


@click.command()
@click.argument("model", type=PATH)
@click.option("--data", type=PATH, help="A data set; its validation split is used.")
@format_option
@click.option("--images", type=PATH, help="A folder of images without labels, instead of --data.")
@click.option("--stats", type=PATH, help="Stats of calib collect; collected first if not given.")
@click.option(
    "--frames",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="Maximum number of frames to measure on, evenly spread.",
)
@spec_option
@click.option("--json", "out", type=PATH, help="Where to write the figures.")
def sensitivity(  # noqa: PLR0913, PLR0917 - one argument per option
    model: Path,
    data: Path | None,
    kind: str | None,
    images: Path | None,
    stats: Path | None,
    frames: int,
    spec: ModelSpec | None,
    out: Path | None,
) -> None:
    """Measure what INT8 in one block of MODEL at a time costs, in matched boxes and AP.

    A block is measured with exact fake quantization while all others stay in FP32. AP needs
    labels. Ranges come from --stats, or else from the training split of --data or from --images.
    """
    if (data is None) == (images is None):
        raise UsageError("give either --data ROOT or --images DIR")
    require_apart([out], [model, stats])
    from edgedetr.export.search import sensitivity as measuring
    from edgedetr.runtime.files import write_text

    source = data or cast("Path", images)
    labelled = data is not None
    found = measuring.sensitivity(model, source, frames, stats, spec, labelled=labelled, kind=kind)
    if out:
        record = {"model": model.name, "command": command_line(), **found.to_dict()}
        write_text(out, json.dumps(record, indent=1) + "\n")
    echo(found.table())
