"""Write a data set into tar shards, in a folder or at a URL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgedetr.distill.dataset_conversion import gathered, put_in_place, require_new
from edgedetr.distill.labels.shard_files import LISTING, is_remote, is_there, location
from edgedetr.distill.labels.shard_writing import write_set
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.files import unfinished_folder

if TYPE_CHECKING:
    import os

    from edgedetr.distill.dataset_conversion import Conversion


def write_shards(
    root: str | os.PathLike[str], out: str | os.PathLike[str], kind: str | None, shard_bytes: int
) -> Conversion:
    """Write the splits of a data set of any format into shards; labels keep all that they say.

    A folder is written whole or not at all. At a URL the listing is written last: a set that was
    interrupted has none, and is written again.

    Args:
        root: The data set's folder.
        out: The new folder, or a URL of a file system that fsspec knows.
        kind: The format to read; None recognises it.
        shard_bytes: Bytes of pictures from which on the next shard begins.

    Raises:
        DataError: If the data set has problems, or ``out`` cannot be written.
        UsageError: If there is a set of shards, or another file, already.
    """
    root, out = Path(root), Path(out)
    remote = is_remote(out)
    if remote and is_there(out / LISTING):
        raise UsageError(f"{location(out)} holds shards; choose another place")
    if not remote:
        out = Path(location(out))
        require_new(out)
    found, frames, names = gathered(root, "shards", kind)
    if remote:
        write_set(out, frames, names, shard_bytes)
        return found
    with unfinished_folder(out) as unfinished:
        write_set(unfinished, frames, names, shard_bytes)
        put_in_place(unfinished, out)
    return found
