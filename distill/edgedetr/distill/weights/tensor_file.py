"""Write safetensors files: equal tensors give equal bytes, and an error names the file."""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LENGTH_BYTES = 8
"""A file begins with the length of its header, little-endian."""


@contextmanager
def tensor_path(path: Path) -> Iterator[str]:
    """Give a temporary path for a safetensors file; it becomes ``path`` when the block succeeds.

    Raises:
        OSError: If the disk is full or cannot be written; it names ``path``.
        ArtifactError: If the tensors cannot be written for another reason.
    """
    with atomic_path(path) as temporary:
        try:
            yield os.fspath(temporary)
            _sort_header(temporary)
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise ArtifactError(f"{path} cannot be written: {error}") from error
            code = int(number[1])
            raise OSError(code, os.strerror(code), os.fspath(path)) from error
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _sort_header(path: Path) -> None:
    """Write the header's keys in order: safetensors takes those of the metadata as they come."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        data = text.encode("utf-8").ljust(length)
        if len(data) != length:
            raise ArtifactError(f"{path}: a sorted header takes {len(data)} bytes, not {length}")
        file.seek(LENGTH_BYTES)
        file.write(data)
