"""What OpenCV's JPEG decoder warns of, which it gives to standard error and to nobody else.

A file with a wrong bit in its scan decodes without an error: from there on the picture is smeared
or shifted. libjpeg notices it where a Huffman code is unknown, or where its codes end before or
behind the scan does. Codes that happen to meet the end again leave no trace.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import read_bytes
from edgedetr.runtime.images.headers import MOST_BYTES, jpeg_end

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_STDERR = 2
_WARNING = re.compile(
    rb"^(?:Corrupt JPEG data: |Warning: |Inconsistent progression |Invalid SOS ).*"
)
_BEHIND = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


@contextmanager
def jpeg_warnings() -> Iterator[list[str]]:
    """Collect the decoder's warnings in a list, which is complete when the block ends.

    Standard error of the whole process goes through a file meanwhile; all else that was written to
    it is written at the end of the block.
    """
    warnings: list[str] = []
    saved = _copy_of_stderr()
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), _STDERR)
        try:
            yield warnings
        finally:
            os.dup2(saved, _STDERR)
            os.close(saved)
            file.seek(0)
            for line in file.read().splitlines(keepends=True):
                if _WARNING.match(line):
                    warnings.append(line.decode("ascii", "replace").strip())
                else:
                    os.write(_STDERR, line)


def refuse_damaged_jpeg(path: Path, data: bytes | None = None) -> None:
    """Stop at a JPEG file whose decoder warns; bytes of one value before its end are padding.

    The file is decoded at an eighth of its size, which reads every code.

    Args:
        path: The file.
        data: What it holds, where it is no file of its own.

    Raises:
        DataError: If it is damaged; the message gives the decoder's.
        OSError: If it cannot be read.
        ValueError: If it is too large, or no regular file.
    """
    data = read_bytes(path, MOST_BYTES) if data is None else data
    end = jpeg_end(data)
    if end < 0:
        return
    with jpeg_warnings() as warnings:
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_COLOR_8)
    for warning in warnings:
        behind = _BEHIND.search(warning)
        if behind and len(set(data[end - int(behind[1]) : end])) <= 1:
            continue
        raise DataError(f"{path}: its pixel data is damaged ({warning}); replace the file")


def _copy_of_stderr() -> int:
    """Return another descriptor of standard error, which leads nowhere if it was closed."""
    try:
        return os.dup(_STDERR)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != _STDERR:
            os.dup2(nowhere, _STDERR)
            os.close(nowhere)
        return os.dup(_STDERR)
