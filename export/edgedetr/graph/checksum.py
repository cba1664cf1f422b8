"""Name an ONNX model by a hash of all its bytes, also of the weights that lie in other files."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import sha256

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def model_sha256(path: Path) -> str:
    """Hash a model: its file, or where it is an ONNX model with external data, all its files.

    Raises:
        ArtifactError: If a file of external data is missing or lies outside of the folder.
    """
    own = sha256(path)
    if path.suffix != ".onnx" or not (names := external_files(path)):
        return own
    return joined_sha256(own, [(sha256(path.parent / name), name) for name in names])


def model_files(path: Path) -> list[Path]:
    """Return the file of an ONNX model and those of its external data, sorted.

    Raises:
        ArtifactError: If one is missing or lies outside of its folder.
    """
    return [path, *(path.parent / name for name in external_files(path))]


def joined_sha256(own: str, weights: Sequence[tuple[str, str]]) -> str:
    """Return the hash of a model by those of its parts.

    Args:
        own: Of the ONNX file; it is the model's where there are no weights beside it.
        weights: Hash and name of each file with weights, sorted by name.
    """
    if not weights:
        return own
    lines = [own, *(f"{found} {name}" for found, name in weights)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


MOST_BYTES = 2 << 30
"""Largest ONNX file: protobuf has no larger ones."""
MOST_EXTERNAL_BYTES = 4 << 30
"""Most that the files of a model's external data have together, as in a package."""


def external_files(path: Path) -> tuple[str, ...]:
    """Name the files that hold weights of an ONNX model, relative to its folder, sorted.

    What is no ONNX model names none.

    Raises:
        ArtifactError: If one is missing or lies outside of the folder, or they are too large.
    """
    if path.stat().st_size > MOST_BYTES:
        return ()
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError:
        return ()
    names = {
        entry.value
        for tensor in tensors_of(model)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for name in names:
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts:
            raise ArtifactError(f"{path} has weights outside of its folder, in {name!r}")
        if not (path.parent / name).is_file():
            raise ArtifactError(
                f"{path} has weights in {path.parent / name}, which is missing; put it there"
            )
    size = sum((path.parent / name).stat().st_size for name in names)
    if size > MOST_EXTERNAL_BYTES:
        raise ArtifactError(
            f"{path} has {size} bytes in other files, wanted at most {MOST_EXTERNAL_BYTES}"
        )
    return tuple(sorted(names))


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every constant of a model, also those inside of loops, branches and functions."""
    yield from model.graph.initializer
    for node in nodes_of(model):
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            for graph in _graphs(attribute):
                yield from graph.initializer


def nodes_of(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield every node of a model, also those inside of loops, branches and functions."""
    pending = [*model.graph.node, *(node for f in model.functions for node in f.node)]
    while pending:
        node = pending.pop()
        yield node
        for attribute in node.attribute:
            for graph in _graphs(attribute):
                pending.extend(graph.node)


def _graphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    yield from attribute.graphs
    if attribute.HasField("g"):
        yield attribute.g
