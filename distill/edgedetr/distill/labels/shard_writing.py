"""Write a split's pictures and labels into tar shards with an index each."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

from fsspec.core import url_to_fs

from edgedetr.distill.labels.shard_files import LISTING, VERSION, Member, Shard, location
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import read_bytes
from edgedetr.runtime.images.headers import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from edgedetr.distill.labels.frames import CheckedFrame, LabelledObject

SHARD_BYTES = 128 << 20
"""Pictures of a shard by default; one that reaches it is the last."""


def write_set(
    out: Path,
    splits: Mapping[str, Sequence[CheckedFrame]],
    class_names: Sequence[str],
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write frames into shards; the listing comes last, so that a set without one is unfinished.

    Args:
        out: The set's folder, or the path that stands for its URL.
        splits: The frames of each split.
        class_names: The classes.
        shard_bytes: Bytes of pictures from which on the next shard begins.

    Raises:
        DataError: If two frames of a split have the same key, or a picture cannot be read.
    """
    found = {
        split: [
            _write_shard(out, f"{split}-{number:06d}", part)
            for number, part in enumerate(_parts(frames, shard_bytes))
        ]
        for split, frames in splits.items()
        if _require_own_keys(frames)
    }
    listing = {
        "version": VERSION,
        "classes": list(class_names),
        "splits": {split: [shard._asdict() for shard in of] for split, of in found.items()},
    }
    _write(out / LISTING, json.dumps(listing, indent=1).encode())


def entry_of(objects: Sequence[LabelledObject], hw: tuple[int, int]) -> dict[str, Any]:
    """Return size and objects of a frame as its JSON has them; pixels, edges between them from 0.

    An object has a box (x0, y0, x1, y1), and more only where it is ignored, truncated or occluded.
    """
    rows = []
    for name, box, is_ignored, truncation, occlusion in objects:
        row: dict[str, Any] = {"class": name, "box": list(map(float, box))}
        row |= {"ignored": True} if is_ignored else {}
        row |= {"truncation": float(truncation)} if truncation else {}
        row |= {"occlusion": int(occlusion)} if occlusion else {}
        rows.append(row)
    return {"hw": list(hw), "objects": rows}


def _require_own_keys(frames: Sequence[CheckedFrame]) -> bool:
    """Stop unless every frame has a key of its own; return whether there is any frame."""
    seen: dict[str, str] = {}
    for frame in frames:
        if (other := seen.setdefault(_key(frame), frame.name)) is not frame.name:
            raise DataError(
                f"{frame.path}: the frames {frame.name!r} and {other!r} would have the same key in "
                "a shard; rename one of them"
            )
    return bool(frames)


def _key(frame: CheckedFrame) -> str:
    """Return the name of a frame up to the suffixes: webdataset ends it at the first dot."""
    return frame.name.replace(".", "_").replace("/", "_")


def _parts(frames: Sequence[CheckedFrame], most: int) -> Iterator[list[tuple[CheckedFrame, bytes]]]:
    """Read the pictures of each shard."""
    part: list[tuple[CheckedFrame, bytes]] = []
    size = 0
    for frame in frames:
        try:
            data = _picture(frame.path)
        except OSError as error:
            raise DataError(f"{frame.path}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise DataError(f"{frame.path}: cannot be read: {error}") from error
        part.append((frame, data))
        size += len(data)
        if size >= most:
            yield part
            part, size = [], 0
    if part:
        yield part


def _picture(path: Path | Member) -> bytes:
    return path.read() if isinstance(path, Member) else read_bytes(path, MOST_BYTES)


def _write_shard(out: Path, name: str, part: Sequence[tuple[CheckedFrame, bytes]]) -> Shard:
    """Write a tar and its index; the same frames give the same bytes."""
    buffer, entries = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for frame, data in part:
            key, entry = _key(frame), entry_of(frame.objects, frame.hw)
            file = f"{key}{frame.path.suffix.lower()}"
            _add(tar, file, data)
            offset = tar.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            _add(tar, f"{key}.json", json.dumps({"name": frame.name, **entry}).encode())
            digest = hashlib.sha256(data).hexdigest()
            place = {"offset": offset, "size": len(data), "sha256": digest}
            entries.append({"name": frame.name, "file": file, **place, **entry})
    shard = Shard(f"{name}.tar", len(part), buffer.getbuffer().nbytes)
    _write(out / shard.name, buffer.getvalue())
    _write(out / shard.index_name, json.dumps({"frames": entries}).encode())
    return shard


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _write(path: Path, data: bytes) -> None:
    """Write a file, whole where the file system can."""
    fs, name = url_to_fs(location(path))
    fs.makedirs(fs._parent(name), exist_ok=True)  # noqa: SLF001 - fsspec has no other
    fs.pipe_file(name, data)
