"""The files of a package: a folder, or a plain tar of one exact form.

In the tar every byte that is not content follows from the names and sizes: files only, sorted, all
with the same owner, mode and time, no padding but zeros. The same contents give the same bytes, and
whatever else a tar can hold (links, devices, long names, a second member of one name) is refused
because it is not that form. Nothing is ever extracted by name.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_FILES = 256
"""How many files a package may hold."""
MAX_FILE_BYTES = 2 << 30
"""Largest file of a package."""
MAX_TOTAL_BYTES = 4 << 30
"""Largest sum of all files of a package."""
TAR_BLOCK = 512
TAR_END = bytes(2 * TAR_BLOCK)
"""What a tar ends with."""

_CHUNK = 1 << 20
_NAME_CHARACTERS = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*){0,2}")
_KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device"} | {
    b"5": "a folder entry",
    b"6": "a pipe",
}


@dataclass(frozen=True)
class Member:
    """Where the bytes of one file of an archive lie."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True)
class Archive:
    """The files of a package, listed and not yet read.

    Attributes:
        path: The folder or tar.
        members: Name, with ``/`` between folders, to place.
    """

    path: Path
    members: Mapping[str, Member]

    @property
    def is_folder(self) -> bool:
        """Whether each member is a file of its own."""
        return self.path.is_dir()

    def blocks(self, name: str) -> Iterator[bytes]:
        """Read a file in blocks of at most 1 MiB.

        Raises:
            ArtifactError: If there is no such file, or it became shorter.
        """
        if name not in self.members:
            raise ArtifactError(f"{self.path}: {name} is missing; fetch the package again")
        member = self.members[name]
        left = member.size
        try:
            with member.path.open("rb") as file:
                file.seek(member.offset)
                while left:
                    block = file.read(min(left, _CHUNK))
                    if not block:
                        raise ArtifactError(f"{self.path}: {name} is cut off")
                    left -= len(block)
                    yield block
        except OSError as error:
            raise ArtifactError(
                f"{self.path}: {name} cannot be read: {error.strerror or error}"
            ) from error


def open_archive(path: Path) -> Archive:
    """List the files of a package.

    Raises:
        ArtifactError: If there is no package, or it holds what no package may hold.
    """
    if not (path.is_dir() or path.is_file()):
        raise ArtifactError(f"{path} is missing; wanted a package: a folder or a .tar")
    listing = _Listing(path)
    try:
        if path.is_dir():
            _list_folder(listing, path)
        else:
            _list_tar(listing, path)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from error
    return Archive(path, listing.members)


def check_name(name: str, source: Path) -> None:
    """Stop unless a name is one that means the same file on every system.

    Raises:
        ArtifactError: If it leads out of the package, is hidden, too long or oddly spelt.
    """
    if not _NAME.fullmatch(name) or len(name) > _NAME_CHARACTERS:
        raise ArtifactError(
            f"{source}: no file of a package may be called {name[:_NAME_CHARACTERS]!r}; wanted "
            f"letters, digits and ._+- in at most three parts and {_NAME_CHARACTERS} characters"
        )


def tar_header(name: str, size: int) -> bytes:
    """Return the 512 bytes (ustar) that stand before a file in a package's tar."""
    fields: list[tuple[bytes, int]] = [
        (name.encode("ascii"), 100),
        (b"0000644", 8),
        (b"0000000", 8),
        (b"0000000", 8),
        (b"%011o" % size, 12),
        (b"%011o" % 0, 12),
        (b" " * 8, 8),
        (b"0", 1),
        (b"", 100),
        (b"ustar\x0000", 8),
        (b"", 32 + 32),
        (b"0000000", 8),
        (b"0000000", 8),
        (b"", 155 + 12),
    ]
    header = b"".join(value.ljust(width, b"\0") for value, width in fields)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def padding(size: int) -> int:
    """Return how many zeros follow a file in a tar."""
    return -size % TAR_BLOCK


class _Listing:
    """Collects members and holds them to the limits."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.members: dict[str, Member] = {}
        self._spellings: set[str] = set()
        self._folders: set[str] = set()
        self._total = 0

    def add(self, name: str, member: Member) -> None:
        source, spelling = self.source, name.lower()
        check_name(name, source)
        if spelling in self._spellings:
            raise ArtifactError(f"{source} holds {name} twice; fetch the package again")
        parts = spelling.split("/")
        folders = {"/".join(parts[:end]) for end in range(1, len(parts))}
        if spelling in self._folders or folders & self._spellings:
            raise ArtifactError(f"{source}: {name} is both a file and a folder")
        self._spellings.add(spelling)
        self._folders |= folders
        self._total += member.size
        if member.size > MAX_FILE_BYTES or self._total > MAX_TOTAL_BYTES:
            raise ArtifactError(
                f"{source}: with {name} of {member.size} bytes it is too large; a file may have "
                f"{MAX_FILE_BYTES} bytes, all together {MAX_TOTAL_BYTES}"
            )
        if len(self.members) == MAX_FILES:
            raise ArtifactError(f"{source} holds more than {MAX_FILES} files")
        self.members[name] = member


def _list_folder(listing: _Listing, folder: Path, prefix: str = "") -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            check_name(name, listing.source)
            if entry.is_symlink():
                raise ArtifactError(f"{listing.source}: {name} is a symbolic link")
            if entry.is_dir():
                _list_folder(listing, Path(entry.path), name + "/")
            elif entry.is_file():
                listing.add(name, Member(Path(entry.path), 0, entry.stat().st_size))
            else:
                raise ArtifactError(f"{listing.source}: {name} is not a regular file")


def _list_tar(listing: _Listing, path: Path) -> None:
    whole = path.stat().st_size
    offset, previous = 0, ""
    with path.open("rb") as file:
        while (header := file.read(TAR_BLOCK)) != bytes(TAR_BLOCK):
            name, size = _read_header(header, path)
            offset += TAR_BLOCK
            listing.add(name, Member(path, offset, size))
            if name < previous:
                raise ArtifactError(f"{path}: {name} is not in its place; fetch the package again")
            previous = name
            offset += size + padding(size)
            if offset > whole:
                raise ArtifactError(f"{path} is cut off inside {name}; fetch the package again")
            file.seek(offset - padding(size))
            if any(file.read(padding(size))):
                raise ArtifactError(f"{path}: bytes were hidden behind {name}")
        if whole != offset + len(TAR_END) or any(file.read(TAR_BLOCK)):
            raise ArtifactError(
                f"{path} does not end where its last file ends; fetch the package again"
            )


def _read_header(header: bytes, path: Path) -> tuple[str, int]:
    """Return name and size; stop where anything else differs from `tar_header`."""
    if len(header) < TAR_BLOCK:
        raise ArtifactError(f"{path} is cut off, or not a package; fetch it again")
    name = header[:100].rstrip(b"\0").decode("ascii", "backslashreplace")
    if header[257:262] != b"ustar":
        raise ArtifactError(f"{path} is damaged, or not a package: wanted a folder or a .tar")
    if kind := _KINDS.get(header[156:157]):
        raise ArtifactError(f"{path}: {name!r} is {kind}; a package holds files only")
    check_name(name, path)
    digits = header[124:135]
    if not re.fullmatch(rb"[0-7]{11}", digits) or header != tar_header(name, int(digits, 8)):
        raise ArtifactError(
            f"{path}: the entry of {name} is damaged, or was not written by edgedetr package"
        )
    return name, int(digits, 8)
