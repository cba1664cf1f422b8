"""Tar shards of pictures with an index, in a folder or at a URL that fsspec opens.

::

    shards.json               classes, and the shards of each split with their sizes
    train-000000.tar          KEY.jpg and KEY.json of each frame, as webdataset has them
    train-000000.index.json   where in the tar each picture lies, its SHA-256, size and objects

With the index a picture is one read of its bytes, from a disk as from an object store. A `Path`
that names a URL, ``s3:/bucket/set``, stands for ``s3://bucket/set``.
"""

from __future__ import annotations

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from fsspec.core import url_to_fs
from typing_extensions import override

from edgedetr.distill.labels.label_files import MOST_JSON_BYTES
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import read_bytes
from edgedetr.runtime.images.headers import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fsspec import AbstractFileSystem
    from numpy.typing import NDArray

T = TypeVar("T")

LISTING = "shards.json"
VERSION = 1
MOST_OFFSET = 1 << 62
READERS = 16
"""Indices and sizes of shards that are read at once."""
_URL = re.compile(r"((?:[a-z][a-z0-9+]*::)*[a-z][a-z0-9+]+):/+(.*)")
_LOCAL = ("file", "local")


class Shard(NamedTuple):
    """One tar of a split: its name, and what the listing says of it."""

    name: str
    frames: int
    size: int

    @property
    def index_name(self) -> str:
        """Name of its index."""
        return f"{self.name.removesuffix('.tar')}.index.json"


class Listing(NamedTuple):
    """What a set of shards holds.

    Attributes:
        class_names: The classes.
        splits: The shards of each split.
    """

    class_names: tuple[str, ...]
    splits: dict[str, list[Shard]]


class Member(PosixPath):
    """The path of a picture in a shard, ``SET/train-000000.tar/KEY.jpg``, and where it lies.

    Attributes:
        offset: Of its first byte in the shard.
        size: In bytes.
        sha256: Of these bytes.
        hw: Height and width of the upright picture.
    """

    offset: int
    size: int
    sha256: str
    hw: tuple[int, int]

    @property
    def shard(self) -> Path:
        """The tar."""
        return Path(self.parent)

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        place = self.offset, self.size
        return member, (self.shard, self.name, place, self.sha256, self.hw)

    def read(self) -> bytes:
        """Read its bytes.

        Raises:
            DataError: If the shard cannot be read, or holds others than its index says.
        """
        data = read_range(self.shard, self.offset, self.size)
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise DataError(f"{self}: its bytes are not those of the index; write the shard again")
        return data


def member(shard: Path, file: str, place: tuple[int, int], sha256: str, hw: Any) -> Member:  # noqa: ANN401 - of an index
    """Return the path of a picture in a shard.

    Args:
        shard: The tar.
        file: Name of the picture in it.
        place: Offset and size of its bytes.
        sha256: Of these bytes.
        hw: Height and width of the picture.
    """
    path = Member(shard / file)
    path.offset, path.size = place
    path.sha256, path.hw = sha256, (int(hw[0]), int(hw[1]))
    return path


def is_remote(root: Path) -> bool:
    """Tell whether a path stands for a URL of another file system than the local one.

    >>> is_remote(Path("s3://bucket/set")), is_remote(Path("/data/set")), is_remote(Path("file:/x"))
    (True, False, False)
    """
    found = _URL.fullmatch(str(root))
    return found is not None and found[1] not in _LOCAL


def location(path: Path) -> str:
    """Return the URL that a path stands for, or the path as it is.

    >>> location(Path("s3://bucket/set")), location(Path("file:///data/set"))
    ('s3://bucket/set', '/data/set')
    """
    found = _URL.fullmatch(str(path))
    if found is None:
        return str(path)
    return f"/{found[2]}" if found[1] in _LOCAL else f"{found[1]}://{found[2]}"


def shards_of(paths: Sequence[Path]) -> NDArray[np.int64] | None:
    """Number the shard that each picture lies in, (N,); None where they are files."""
    if not paths or not all(isinstance(path, Member) for path in paths):
        return None
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(str(p.parent), len(numbers)) for p in paths], np.int64)


def is_folder(root: Path) -> bool:
    """Tell whether a path is a folder, or stands for a URL, which may be one."""
    return is_remote(root) or Path(location(root)).is_dir()


def read_whole(path: Path) -> bytes:
    """Read a listing or an index; raises DataError where it cannot be read, or is too large."""
    if not is_remote(path):
        try:
            return read_bytes(location(path), MOST_JSON_BYTES)
        except FileNotFoundError as error:
            raise DataError(f"{location(path)}: no such file") from error
        except (OSError, ValueError) as error:
            raise DataError(f"{location(path)}: cannot be read: {error}") from error
    data = _asked(path, lambda fs, name: bytes(fs.cat_file(name, 0, MOST_JSON_BYTES + 1)))
    if len(data) > MOST_JSON_BYTES:
        raise DataError(f"{location(path)}: larger than {MOST_JSON_BYTES >> 20} MiB")
    return data


def read_range(path: Path, offset: int, size: int) -> bytes:
    """Read a picture's part of a file; raises DataError where it cannot be read, or ends before."""
    if not (0 <= offset < MOST_OFFSET and 0 <= size <= MOST_BYTES):
        raise DataError(
            f"{path}: {size} bytes from {offset} on are no picture; write the shard again"
        )
    if is_remote(path):
        data = _asked(path, lambda fs, name: bytes(fs.cat_file(name, offset, offset + size)))
    else:
        try:
            tar = Path(location(path))
            if tar.exists() and not tar.is_file():  # to open a pipe would wait for who writes it
                raise DataError(f"{path}: no regular file; wanted a tar")
            with tar.open("rb", buffering=0) as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) < size:
        raise DataError(f"{path}: ends at byte {offset + len(data)}, before a picture does")
    return data


def size_of(path: Path) -> int:
    """Return the size of a file in bytes; raises DataError where it cannot be read."""
    return _asked(path, lambda fs, name: int(fs.size(name)))


def is_there(path: Path) -> bool:
    """Tell whether there is such a file; raises DataError where its place cannot be reached."""
    return _asked(path, lambda fs, name: bool(fs.isfile(name)))


def read_listing(root: Path) -> Listing:
    """Read what a set of shards holds.

    Raises:
        DataError: If there is no listing, or it is damaged.
    """
    path = root / LISTING
    values = _json(path)
    try:
        _require_version(values["version"])
        splits = {
            str(split): [Shard(_file_name(s["name"]), int(s["frames"]), int(s["size"])) for s in of]
            for split, of in values["splits"].items()
        }
        return Listing(tuple(str(name) for name in values["classes"]), splits)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: no listing of shards ({type(error).__name__}: {error}); write it with "
            "edgedetr data shards"
        ) from error


def read_indices(root: Path, shards: Iterable[Shard]) -> list[tuple[Shard, list[Any], str]]:
    """Read the indices of shards, and compare the size of each tar with the listing.

    Returns:
        Of each shard the entries of its frames, and what is wrong with it; empty if nothing is.
    """

    def read(shard: Shard) -> tuple[Shard, list[Any], str]:
        try:
            entries = _json(root / shard.index_name)["frames"]
            found = size_of(root / shard.name)
        except DataError as error:
            return shard, [], str(error)
        except (KeyError, TypeError) as error:
            return shard, [], f"{root / shard.index_name}: no index of a shard ({error})"
        if found != shard.size or not isinstance(entries, list) or len(entries) != shard.frames:
            problem = f"{found} bytes, wanted {shard.size}; {shard.frames} frames wanted"
            return shard, [], f"{root / shard.name}: {problem}; write the shard again"
        return shard, entries, ""

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(read, shards))


def _require_version(version: object) -> None:
    """Stop at a listing of another version; raises ValueError."""
    if version != VERSION:
        raise ValueError(f"version {version!r}, wanted {VERSION}")


def _file_name(name: object) -> str:
    """Check the name of a tar: it lies beside its listing."""
    if not isinstance(name, str) or not re.fullmatch(r"[^/\\]+\.tar", name):
        raise ValueError(f"name {name!r}, wanted that of a tar")
    return name


def _json(path: Path) -> Any:  # noqa: ANN401 - of a file
    try:
        return json.loads(read_whole(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a readable JSON file: {error}") from error


def _asked(path: Path, ask: Callable[[AbstractFileSystem, str], T]) -> T:
    """Ask the file system of a path; each has errors of its own, which become one line."""
    try:
        return ask(*url_to_fs(location(path)))
    except ImportError as error:
        raise DataError(f"{location(path)}: its file system is not installed: {error}") from error
    except FileNotFoundError as error:
        raise DataError(f"{location(path)}: no such file") from error
    except Exception as error:  # a service's own errors have no class in common
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{location(path)}: cannot be read: {said}") from error
