"""Write a file whole or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_TEXT_BYTES = 16 << 20
"""Largest settings, manifest or digest that is read."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` when the block succeeds.

    The folder is made when it is missing. After an error nothing is left of the temporary file.
    The temporary name keeps the suffix of ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_bytes(path: Path, most: int) -> bytes:
    """Read a file that somebody else wrote.

    Raises:
        ValueError: If it is larger than ``most`` bytes.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it is larger than {most / 2**20:g} MiB")
    return data


def read_text(path: Path, most: int = MOST_TEXT_BYTES) -> str:
    """Read a UTF-8 text file that somebody else wrote.

    Raises:
        ValueError: If it is larger than ``most`` bytes or is no UTF-8.
        OSError: If it cannot be read.
    """
    return read_bytes(path, most).decode("utf-8")


def sha256(path: Path) -> str:
    """Hash a file's bytes, as hexadecimal text."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
