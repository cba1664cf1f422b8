"""``edgedetr data shards``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgedetr.runtime.commands.options import PATH, format_option, json_option, require_apart
from edgedetr.runtime.commands.output import echo, write_figures
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("root", type=PATH)
@click.option("-o", "--out", required=True, metavar="FOLDER|URL", help="Where to write them.")
@click.option(
    "--shard-mib",
    type=click.IntRange(1, 1 << 16),
    default=128,
    show_default=True,
    help="Size of the pictures in a shard, in MiB.",
)
@format_option
@json_option
def shards(root: Path, out: str, shard_mib: int, kind: str | None, figures: Path | None) -> None:
    """Write the data set ROOT into tar shards with an index, as webdataset has them.

    The URL is one of a file system that fsspec knows, such as s3://bucket/set with s3fs installed.
    """
    from edgedetr.distill.dataset_shards import write_shards

    require_apart([figures], [])
    found = write_shards(root, out, kind, shard_mib << 20)
    write_figures(figures, {"to": "shards", **vars(found)})
    for line in found.lines():
        echo(printable(line), err=True)
    splits = ", ".join(f"{split} {count}" for split, count in found.frames.items())
    echo(printable(f"{out}: shards, frames: {splits}; {found.objects} objects"))
