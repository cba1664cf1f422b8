"""Recognise the format of a data set by looking at its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from edgedetr.distill.labels.shard_files import is_folder
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.plugins import find, names

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = "edgedetr.distill.data"
AUTO = "auto"
"""The format that stands for the one that a folder looks like."""


class _Format(Protocol):
    LAYOUT: str

    def is_here(self, root: Path) -> bool: ...


def formats_of(root: Path) -> list[str]:
    """List the formats that a folder looks like."""
    return [name for name in names(FORMATS) if _format(name).is_here(root)]


def recognised(root: Path, given: str | None = None) -> str:
    """Name the format of a folder, or check the one that was given.

    Args:
        root: The data set's folder.
        given: The format; None or `AUTO` to look at the folder.

    Raises:
        UnknownNameError: If there is no such format; the message names the nearest.
        DataError: If the folder is missing, or looks like another format, several or none.
    """
    if given not in {None, AUTO}:
        wanted = _format(str(given))
        if root.is_dir() and not wanted.is_here(root) and (others := formats_of(root)):
            raise DataError(
                f"{root}: looks like {' or '.join(others)}, not {given} ({wanted.LAYOUT}); choose "
                f"the format {others[0]}"
            )
        return str(given)
    if not is_folder(root):
        raise DataError(f"{root}: no such folder; wanted a data set")
    found = formats_of(root)
    if len(found) > 1:
        raise DataError(
            f"{root}: may be {' or '.join(found)}; choose one of them with --format or data.format"
        )
    if not found:
        every = "; ".join(f"{name} ({_format(name).LAYOUT})" for name in names(FORMATS))
        raise DataError(f"{root}: holds no data set; wanted one of these formats: {every}")
    return found[0]


def _format(name: str) -> _Format:
    return cast("_Format", find(FORMATS, name))
