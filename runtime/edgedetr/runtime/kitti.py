"""KITTI's folder of images and splits, and its folder of results: a file for each frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import DataError, UsageError
from edgedetr.runtime.files import files_with, in_any_case, read_text
from edgedetr.runtime.images import list_images
from edgedetr.runtime.settings import nearest

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Sequence

NO_IMAGE = "frame {!r} has no image in training/image_2"


def image_paths(root: str | os.PathLike[str], split: str) -> dict[str, Path]:
    """Return the images of a split by frame name, in the order of its list.

    Raises:
        DataError: If the folder or the list is missing, a listed image does not exist, or a frame
            has two images.
    """
    root = Path(root)
    found = _images_by_frame(root / "training" / "image_2")
    if split == "all":
        return found
    listing = in_any_case(root / "ImageSets" / f"{split}.txt")
    if not listing.is_file():
        have = [p.stem for p in files_with(listing.parent, ".txt")]
        raise DataError(
            f"{listing}: no such list; wanted one frame name a line for the split {split!r}"
            f"{nearest(split, ['all', *have])}"
        )
    chosen: dict[str, Path] = {}
    for number, line in enumerate(_text(listing).splitlines(), 1):
        name = line.strip()
        if name and name not in found:
            raise DataError(f"{listing}:{number}: {NO_IMAGE.format(name)}")
        if name:
            chosen[name] = found[name]
    if not chosen:
        raise DataError(f"{listing}: the list is empty; wanted one frame name a line")
    return chosen


def _images_by_frame(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in list_images(folder):
        if path.stem in found:
            raise DataError(f"{path}: the frame has another image, {found[path.stem].name}")
        found[path.stem] = path
    return found


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable text file: {error}") from error


def result_path(folder: Path, frame_id: str) -> Path:
    """Return where the result file of a frame lies."""
    return folder / f"{frame_id}.txt"


def check_names(frame_ids: Sequence[str]) -> None:
    """Stop unless every frame has a result file of its own.

    Raises:
        DataError: If two have the same name.
    """
    if len(set(frame_ids)) < len(frame_ids):
        twice = next(name for name in frame_ids if frame_ids.count(name) > 1)
        raise DataError(f"two images are called {twice}; their results would share one file")


def check_folder(folder: Path, replaced: Collection[str] = ()) -> None:
    """Stop unless results may be written to a folder; it need not exist.

    Args:
        folder: Where the result files go.
        replaced: Frames whose earlier results may lie there.

    Raises:
        UsageError: If it is a file, or holds results of other frames, which an evaluation of the
            folder would count.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; choose a folder for the results")
    others = sorted({path.stem for path in files_with(folder, ".txt")} - set(replaced))
    if others:
        raise UsageError(f"{folder} holds other results ({others[0]}.txt); choose another folder")
