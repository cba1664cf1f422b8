"""COCO's annotation files: which of a folder's files a split means."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING, NamedTuple

from edgedetr.distill.labels.label_files import is_hidden
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

SPLITS = {"train": ("train",), "val": ("val", "valid")}
"""Names under which a split may lie on disk."""


class Source(NamedTuple):
    """An annotation file and the folder of its images."""

    path: Path
    folder: Path


def find_sources(root: Path, split: str) -> list[Source]:
    """Return the annotation files of a split with the folders of their images.

    Raises:
        DataError: If there is none, or several may be meant.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; wanted a COCO data set")
    wanted = SPLITS.values() if split == "all" else [SPLITS.get(split, (split,))]
    choices = [_candidates(root, names) for names in wanted]
    for choice in choices:
        if len(choice) > 1:
            names = [os.path.relpath(source.path, root) for source in choice]
            raise DataError(
                f"{root}: {' and '.join(names)} may each be meant; name one as the split, such as "
                f"{choice[-1].path.name!r}, or remove the other"
            )
    found = [source for choice in choices for source in choice]
    if not found:
        raise DataError(
            f"{root}: no annotations for the split {split!r}; wanted {split}.json with images in "
            f"{split}/ or annotations/instances_{split}2017.json with images in {split}2017/"
        )
    return found


def _candidates(root: Path, names: tuple[str, ...]) -> list[Source]:
    folder = root / "annotations"
    paths = [top / name for name in names if name.endswith(".json") for top in (root, folder)]
    paths += [root / f"{name}.json" for name in names]
    for name in names:
        paths += [folder / f"instances_{name}.json"]
        paths += sorted(folder.glob(f"instances_{glob.escape(name)}[0-9]*.json"))
    return [
        Source(path, root / path.stem.removeprefix("instances_"))
        for path in paths
        if path.is_file() and not is_hidden(path)
    ]
