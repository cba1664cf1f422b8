"""A teacher's answers on disk: shards that are written once, and an index of what they hold.

A folder holds `HEADER`, which says what the answers depend on, and shards of safetensors. A shard
has ``keys`` (n, 16), the hash of the pixels that each answer is for, and the parts of the answers,
``0`` to ``k``, batch first; its metadata say what they are and name the pictures. Shards get their
name when they are whole, so that several processes may add to one folder, and a killed one leaves
whole shards alone.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from typing_extensions import override

from edgedetr.distill.types import TeacherAnswer
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import UNFINISHED, atomic_path, read_json, write_text

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor
    from typing_extensions import Self

    Parts = tuple[NDArray[Any], ...]

HEADER = "cache.json"
SHARD = "answers-{}.safetensors"
SHARD_BYTES = 64 << 20
"""How many bytes of answers make up a shard."""
KEY_BYTES = 16

Kind = Literal["features", "detections"]
_KINDS: tuple[Kind, ...] = ("features", "detections")
Precision = Literal["fp16", "fp32"]


@dataclass(frozen=True)
class _Place:
    """Where an answer lies: in which row of which file."""

    shard: str
    row: int


class AnswerStore:
    """The answers of one folder, of one teacher, for the pictures of one way to make them.

    What is added is found at once here, and by others once its shard is written.

    Args:
        folder: Where they lie.
        header: What they depend on, as text by its name.
        precision: How floating features are stored; boxes are always in FP32.

    Raises:
        ArtifactError: If the folder holds answers that depend on something else, or other files,
            or a damaged shard.
        OSError: If it cannot be read or written.
    """

    def __init__(
        self, folder: str | os.PathLike[str], header: Mapping[str, str], precision: Precision
    ) -> None:
        self.folder, self._precision = Path(folder), precision
        self._places: dict[tuple[Kind, bytes], _Place] = {}
        self._items: dict[tuple[Kind, str], bytes] = {}
        self._buffers: dict[tuple[Any, ...], _Buffer] = {}
        self._unwritten: dict[tuple[Kind, bytes], Parts] = {}
        self._known: set[str] = set()
        self._open: dict[str, Any] = {}
        self._changed_ns = 0
        _check_header(self.folder, header)
        self._scan()

    @override
    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind: a process opens its own."""
        return self.__dict__ | {"_open": {}}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    @property
    def bytes_on_disk(self) -> int:
        """How many bytes the shards that are known take."""
        return sum((self.folder / name).stat().st_size for name in self._known)

    def holds(self, kind: Kind, item: str) -> bool:
        """Tell whether it has the answer for a picture by its name."""
        return (kind, item) in self._items

    def answer(self, pixels: Tensor, item: str, *, labelled: bool) -> TeacherAnswer:
        """Read what there is for one picture.

        Args:
            pixels: What the teacher sees, uint8 (3, H, W).
            item: Name of the picture; empty where its pixels alone say so.
            labelled: Whether it has labels; what the teacher detects matters where it has none.

        Raises:
            ArtifactError: If the answer for the picture of this name is that for other pixels.
        """
        key = key_of(pixels)
        features = self.find("features", key)
        detections = None if labelled else self.find("detections", key)
        known = self._items.get(("features", item)) if item else None
        if features is None and known is not None and known != key:
            raise ArtifactError(
                f"{self.folder}: its answer for {item} is for other pixels: the image or the code "
                "of an augmentation changed; delete the folder, or name another cache"
            )
        return TeacherAnswer(key, item, features, detections)

    def find(self, kind: Kind, key: bytes) -> Parts | None:
        """Return the parts of an answer, without the batch; None where it is missing."""
        if (kind, key) in self._unwritten:
            return self._unwritten[kind, key]
        place = self._places.get((kind, key))
        if place is None and self._scan():
            place = self._places.get((kind, key))
        if place is None:
            return None
        with _readable(self.folder / place.shard):
            shard = self._opened(place.shard)
            names = (str(part) for part in range(len(shard.keys()) - 1))
            return tuple(shard.get_slice(name)[place.row : place.row + 1][0] for name in names)

    def add(self, kind: Kind, answer: TeacherAnswer, parts: Sequence[Tensor]) -> Parts:
        """Take an answer up; return it as it will be read.

        Args:
            kind: What it is.
            answer: Whose it is.
            parts: Its tensors without the batch; those whose last side is 4 are boxes.

        Raises:
            ArtifactError: If a value is too large for FP16.
            OSError: If the disk is full.
        """
        kept = tuple(self.rounded(part) for part in parts)
        self.keep(kind, answer, kept)
        return kept

    def keep(self, kind: Kind, answer: TeacherAnswer, parts: Parts) -> None:
        """Take an answer up as it is stored; one that is known gets a further name so."""
        buffer = self._buffers.setdefault(
            (kind, *((part.dtype, part.shape) for part in parts)), _Buffer(kind, [], [], [])
        )
        buffer.keys.append(answer.key)
        buffer.items.append(answer.item)
        buffer.rows.append(parts)
        self._unwritten[kind, answer.key] = parts
        if answer.item:
            self._items[kind, answer.item] = answer.key
        if len(buffer.rows) * sum(part.nbytes for part in parts) >= SHARD_BYTES:
            self._write(buffer)

    def flush(self) -> None:
        """Write what was added."""
        for buffer in self._buffers.values():
            self._write(buffer)

    def rounded(self, part: Tensor) -> NDArray[Any]:
        """Return a part of an answer as it is stored; raises ArtifactError if it is too large."""
        part = part.detach().cpu()
        if not part.is_floating_point():
            return part.numpy()
        given: NDArray[np.float32] = part.float().numpy()
        is_box = part.ndim == 2 and part.shape[-1] == 4
        if is_box or self._precision == "fp32":
            return given
        with np.errstate(over="ignore"):
            half = given.astype(np.float16)
        if np.isfinite(given).all() and not np.isfinite(half).all():
            raise ArtifactError(
                f"the teacher's features reach {np.abs(given).max():.3g}, more than FP16 holds "
                '(65504); set teacher_cache.precision = "fp32"'
            )
        return half

    def _write(self, buffer: _Buffer) -> None:
        if not buffer.rows:
            return
        keys = np.frombuffer(b"".join(buffer.keys), np.uint8).reshape(-1, KEY_BYTES)
        columns = zip(*buffer.rows, strict=True)
        tensors = {
            str(i): np.ascontiguousarray(np.stack(column)) for i, column in enumerate(columns)
        }
        metadata = {"kind": buffer.kind, "items": json.dumps(buffer.items)}
        path = self.folder / SHARD.format(token_hex(8))
        with atomic_path(path) as temporary:
            save_file({"keys": keys, **tensors}, temporary, metadata)
        self._take_up(path.name)
        for key in buffer.keys:
            self._unwritten.pop((buffer.kind, key), None)
        for part in (buffer.keys, buffer.items, buffer.rows):
            part.clear()

    def _scan(self) -> bool:
        """Take up shards that came since; return whether there was any."""
        changed_ns = self.folder.stat().st_mtime_ns
        if changed_ns == self._changed_ns:
            return False
        self._changed_ns = changed_ns
        new = {p.name for p in self.folder.glob(SHARD.format("*"))} - self._known
        for name in sorted(new):
            self._take_up(name)
        return bool(new)

    def _take_up(self, name: str) -> None:
        with _readable(self.folder / name):
            shard = self._opened(name)
            about = shard.metadata()
            kind, items = about["kind"], json.loads(about["items"])
            keys = shard.get_tensor("keys")
            if kind not in _KINDS or keys.shape != (len(items), KEY_BYTES):
                raise ValueError("it has other contents")
        for row, (key, item) in enumerate(zip(keys, items, strict=True)):
            self._places[kind, key.tobytes()] = _Place(name, row)
            if item:
                self._items[kind, item] = key.tobytes()
        self._known.add(name)

    def _opened(self, name: str) -> Any:  # noqa: ANN401 - safetensors has no type for it
        if name not in self._open:
            self._open[name] = safe_open(self.folder / name, framework="np")
        return self._open[name]


@dataclass(frozen=True, eq=False)
class _Buffer:
    """Answers of one kind and shape that are not written yet."""

    kind: Kind
    keys: list[bytes]
    items: list[str]
    rows: list[Parts]


def key_of(pixels: Tensor) -> bytes:
    """Hash pixels, uint8 (3, H, W), with their size."""
    size = np.array(pixels.shape, np.int64).tobytes()
    digest = hashlib.blake2b(size, digest_size=KEY_BYTES)
    digest.update(np.ascontiguousarray(pixels.numpy()).data)
    return digest.digest()


def _check_header(folder: Path, header: Mapping[str, str]) -> None:
    """Write the header into an empty folder; refuse one with another header, or without any."""
    path = folder / HEADER
    if not path.is_file():
        inside = folder.iterdir() if folder.is_dir() else ()
        # another process may have written the header meanwhile
        others = [p.name for p in inside if not p.name.endswith((UNFINISHED, HEADER))]
        if others:
            raise ArtifactError(
                f"{folder} is no teacher cache: it has no {HEADER}, and holds {others[0]}; name an "
                "empty folder"
            )
        write_text(path, json.dumps(dict(header), indent=2) + "\n")
        return
    try:
        found = read_json(path)
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged: {error}; delete the folder") from error
    for name in {**header, **found}:
        if found.get(name) != header.get(name):
            raise ArtifactError(
                f"{folder} holds answers for another {name}: it was {_shown(found.get(name))}, is "
                f"{_shown(header.get(name))}; name another cache, or delete this one"
            )


def _shown(value: object) -> str:
    """Shorten a hash."""
    text = f"{value}"
    return f"{text[:12]}..." if len(text) == 64 else text


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Report a damaged shard in one line."""
    try:
        yield
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); delete it") from error
