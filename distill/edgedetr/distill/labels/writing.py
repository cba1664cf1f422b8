"""What every format's writer needs: numbers as text, images in place, names that differ."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

from edgedetr.distill.labels.shard_files import Member
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from edgedetr.distill.labels.frames import CheckedFrame


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def decimal(value: float) -> str:
    """Write a coordinate, exact to a ten-thousandth of a pixel.

    >>> decimal(12.0), decimal(0.33333333)
    ('12', '0.3333')
    """
    return f"{value:.4f}".rstrip("0").rstrip(".")


def rounded(value: float) -> float | int:
    """Round a coordinate for JSON to a ten-thousandth of a pixel; a whole one is an integer."""
    near = round(value, 4)
    return int(near) if near == int(near) else near


def _copy(source: Path, target: Path) -> None:
    """Copy a file; a full disk is told of the copy, and not of its source."""
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error


def place_image(source: Path, target: Path) -> None:
    """Put an image in place as a hard link; as a copy where that cannot be, as out of a shard."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, Member):
        target.write_bytes(source.read())
        return
    try:
        os.link(source.resolve(), target)
    except OSError:
        _copy(source, target)


def image_name(frame: CheckedFrame) -> str:
    """Return the file name of a frame's image in a new folder, its suffix in lower case."""
    return f"{frame.name}{frame.path.suffix.lower()}"


def require_own_names(frames: Iterable[CheckedFrame]) -> None:
    """Stop unless every frame has a name of its own.

    Raises:
        DataError: If two frames have the same name, so that one file would hold both.
    """
    seen: dict[str, Path] = {}
    for frame in frames:
        if frame.name in seen:
            raise DataError(
                f"{frame.path}: the frame {frame.name!r} is also {seen[frame.name]}; the format "
                "names frames by their files, so rename one of them"
            )
        seen[frame.name] = frame.path


def one_word_names(names: Iterable[str]) -> dict[str, str]:
    """Give each class a name without spaces.

    Raises:
        DataError: If two classes then have the same name.

    >>> one_word_names(["traffic light", "car"])
    {'traffic light': 'traffic_light', 'car': 'car'}
    """
    words = {name: "_".join(name.split()) for name in names}
    by_word: dict[str, str] = {}
    for name, word in words.items():
        if word in by_word:
            raise DataError(
                f"the classes {by_word[word]!r} and {name!r} would both be written {word!r}; "
                "rename one of them"
            )
        by_word[word] = name
    return words
