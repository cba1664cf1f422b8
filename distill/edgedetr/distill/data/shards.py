"""Tar shards with an index, on a disk or in an object store: see `labels.shard_files`.

``edgedetr data shards`` writes them of any other format. Labels keep all that they say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgedetr.distill.data import opener
from edgedetr.distill.dataset_survey import survey_labels
from edgedetr.distill.labels.coco_entries import finite_number, is_name, reason, short, whole_number
from edgedetr.distill.labels.frames import (
    EVERY_CLASS,
    LabelledFrame,
    LabelledObject,
    LabelSet,
    with_bar,
)
from edgedetr.distill.labels.keeps import Keeps
from edgedetr.distill.labels.shard_files import (
    LISTING,
    is_there,
    member,
    read_indices,
    read_listing,
)
from edgedetr.distill.labels.shard_writing import write_set
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.settings import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgedetr.distill.dataset_survey import Survey
    from edgedetr.distill.labels.frames import CheckedFrame

LAYOUT = f"{LISTING}, train-000000.tar and train-000000.index.json"
KEEPS = Keeps(ignored="any", truncation="share", occlusion="grade")
BEYOND = ""


def is_here(root: Path) -> bool:
    """Tell whether a folder or a URL has a listing of shards."""
    return is_there(root / LISTING)


def splits(root: Path) -> tuple[str, ...]:
    """List the splits of the listing."""
    return tuple(read_listing(root).splits)


def images(root: Path, split: str) -> list[Path]:
    """Stop: pictures in shards are no files.

    Raises:
        DataError: Always; it says how to get files.
    """
    raise DataError(
        f"{root}: the pictures of {split!r} lie in tar shards, and files are wanted here; write "
        "them with edgedetr data convert ROOT OUT --to coco"
    )


def read(root: Path, split: str) -> LabelSet:
    """Read the labels of a split from the indices of its shards.

    Raises:
        DataError: If there is no listing or no such split.
    """
    listing = read_listing(root)
    if split != "all" and split not in listing.splits:
        raise DataError(f"{root / LISTING}: no split {split!r}{nearest(split, listing.splits)}")
    wanted = listing.splits.values() if split == "all" else [listing.splits[split]]
    shards = [shard for of in wanted for shard in of]
    found = LabelSet(root, listing.class_names)
    for shard, entries, problem in with_bar(read_indices(root, shards), len(shards)):
        if problem:
            found.problems.append(problem)
        for number, entry in enumerate(entries, 1):
            frame = _read_frame(root / shard.name, entry)
            if isinstance(frame, str):
                found.problems.append(f"{root / shard.index_name}: frame {number}: {frame}")
            else:
                found.frames.append(frame)
    return found


open_dataset = opener(read)


def survey(root: Path, *, decode: bool = False) -> Survey:
    """Check every index and shard, and with ``decode`` every picture."""
    return survey_labels(read(root, "all"), decode=decode)


def write(
    out: Path, splits: Mapping[str, list[CheckedFrame]], class_names: tuple[str, ...]
) -> None:
    """Write frames into a new folder.

    Raises:
        DataError: If two frames of a split have the same key.
    """
    write_set(out, splits, class_names)


def _read_frame(shard: Path, entry: Any) -> LabelledFrame | str:  # noqa: ANN401 - of a file
    """Read an entry of an index, or say what is wrong with it."""
    try:
        return _frame(shard, entry)
    except (KeyError, TypeError, ValueError) as error:
        return reason(error)


def _frame(shard: Path, entry: Any) -> LabelledFrame:  # noqa: ANN401 - of a file
    """Read an entry of an index; raises KeyError, TypeError or ValueError."""
    height, width = (whole_number(side) for side in entry["hw"])
    place = whole_number(entry["offset"]), whole_number(entry["size"])
    if min(height, width, *place) < 0 or not isinstance(entry["file"], str):
        raise ValueError(f"{short(entry['file'])}: wanted a name, a place and a size")
    path = member(shard, entry["file"], place, str(entry["sha256"]), (height, width))
    objects = [_object(row) for row in entry["objects"]]
    return LabelledFrame(path, str(path), (height, width), objects, str(entry["name"]))


def _object(row: Any) -> LabelledObject:  # noqa: ANN401 - of a file
    name = row["class"]
    if not is_name(name) and not (name == EVERY_CLASS and row.get("ignored")):
        raise ValueError(f"class {short(name)}, wanted printable text")
    x0, y0, x1, y1 = (finite_number(side) for side in row["box"])
    return LabelledObject(
        name,
        (x0, y0, x1, y1),
        bool(row.get("ignored", False)),
        finite_number(row.get("truncation", 0.0)),
        whole_number(row.get("occlusion", 0)),
    )
