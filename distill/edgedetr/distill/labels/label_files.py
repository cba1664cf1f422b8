"""Read what people label with: text and JSON files of any origin, bounded and checked.

A byte order mark, which Windows' Notepad writes, is no part of the text. What is no regular file
(a device, a pipe) is refused: reading it may never end.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import read_text

if TYPE_CHECKING:
    from pathlib import Path

MOST_TEXT_BYTES = 16 << 20
"""Largest label file or list of frames that is read."""
MOST_JSON_BYTES = 2 << 30
"""Largest annotation file that is read: COCO's own have 0.5 GB, Objects365's 1.2 GB."""


def read_label_text(path: Path) -> str:
    """Read a UTF-8 text file, with or without a byte order mark.

    Raises:
        DataError: If it is missing, no regular file, larger than ``MOST_TEXT_BYTES`` or no UTF-8.
    """
    try:
        return read_text(path, MOST_TEXT_BYTES)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable text file: {error}") from error


def read_label_json(path: Path) -> object:
    """Read a JSON file; a key that an object has twice is refused, as one value would be lost.

    Raises:
        DataError: If it is missing, no regular file, larger than ``MOST_JSON_BYTES``, no JSON or
            nested too deeply.
    """
    try:
        text = read_text(path, MOST_JSON_BYTES)
        value: object = json.loads(text, object_pairs_hook=_each_once)
    except RecursionError as error:
        raise DataError(f"{path}: not a readable JSON file: nested too deeply") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable JSON file: {error}") from error
    return value


def is_hidden(path: Path) -> bool:
    """Tell a hidden file, as macOS leaves them (``._000000.txt``) and unfinished copies are."""
    return path.name.startswith(".")


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return values
