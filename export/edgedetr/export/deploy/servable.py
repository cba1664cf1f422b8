"""Read what a server needs to know of one model in a package: its file and its tensors."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from edgedetr.export.deploy.folder import unused
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.manifest import manifest_from_json, manifest_path

if TYPE_CHECKING:
    from edgedetr.runtime.package.format import PackedModel
    from edgedetr.runtime.package.reader import Package
    from edgedetr.runtime.spec import ModelSpec

DYNAMIC = -1
"""The size of a dimension that is not fixed."""
THRESHOLD = 0.3
"""Lowest score, as `edgedetr detect` has it."""


@dataclass(frozen=True)
class Tensor:
    """An input or output.

    Attributes:
        name: Its name in the graph.
        kind: Name of its type in ONNX, such as ``FLOAT``.
        shape: Sizes; `DYNAMIC` where one is not fixed.
    """

    name: str
    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Servable:
    """One model of a package.

    Attributes:
        path: Its file.
        companions: Files of external data that must lie beside it.
        is_engine: Whether it is a TensorRT engine; else it is ONNX.
        precision: ``fp32``, ``fp16`` or ``int8``.
        spec: Its contract.
        inputs: Of the graph; of an engine those of the graph it was built from.
        outputs: Those that the spec names, in its order.
        made_for: The GPUs and the versions of an engine, in words; empty for ONNX.
    """

    path: Path
    companions: tuple[Path, ...]
    is_engine: bool
    precision: str
    spec: ModelSpec
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    made_for: str

    @property
    def batch(self) -> int:
        """How many images the model takes at once."""
        return self.inputs[0].shape[0]

    def copy(self, target: Path) -> None:
        """Copy the model to ``target`` and its external data beside it.

        Raises:
            ArtifactError: If the data have the name of another file there.
        """
        shutil.copyfile(self.path, target)
        for companion in self.companions:
            shutil.copyfile(companion, unused(target.parent / companion.name))


def open_servable(package: Package, name: str = "") -> Servable:
    """Read a model of a package.

    Args:
        package: An opened package.
        name: The model, as in its manifest; the first when empty.

    Raises:
        ArtifactError: If there is no such model, it is an engine without the graph it was built
            from or without its manifest, it has inputs beside the image, or lacks an output
            that its spec names.
    """
    known = {m.name: m for m in package.manifest.models}
    if name and name not in known:
        raise ArtifactError(f"{package.path} holds no model {name}; it has {', '.join(known)}")
    packed = known[name] if name else package.manifest.models[0]
    is_engine = packed.kind == "engine"
    if is_engine and not packed.source:
        raise ArtifactError(
            f"{package.path}: {packed.name} is packed without the ONNX model it was built from, "
            "which tells its shapes; package both"
        )
    inputs, outputs = _tensors(package.model_path(packed.source or packed.name), package)
    path = package.model_path(packed.name)
    beside = (path.parent / Path(name).name for name in packed.companions)
    return Servable(
        path=path,
        companions=tuple(p for p in beside if p != manifest_path(path)),
        is_engine=is_engine,
        precision=packed.precision,
        spec=package.spec,
        inputs=inputs,
        outputs=outputs,
        made_for=_made_for(package, packed) if is_engine else "",
    )


def labels(spec: ModelSpec) -> str:
    """Return the names of the classes, one a line."""
    return "".join(f"{name}\n" for name in spec.class_names)


def _tensors(path: Path, package: Package) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    graph = onnx.load(path, load_external_data=False).graph
    constants = {i.name for i in graph.initializer}
    inputs = tuple(_tensor(v) for v in graph.input if v.name not in constants)
    outputs = {v.name: _tensor(v) for v in graph.output}
    spec = package.spec
    if found := sorted(t.name for t in inputs if t.name != spec.input_name):
        raise ArtifactError(
            f"{package.path}: {path.name} has the input {found[0]} beside the image; make it a "
            "constant with edgedetr export fp16 or qdq, and package that"
        )
    known = {*outputs, *(t.name for t in inputs)}
    if lost := [n for n in (spec.input_name, *spec.output_names) if n not in known]:
        raise ArtifactError(
            f"{package.path}: {path.name} has no tensor {lost[0]}, which its spec names"
        )
    return inputs, tuple(outputs[n] for n in spec.output_names)


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else DYNAMIC for d in kind.shape.dim)
    return Tensor(value.name, onnx.TensorProto.DataType.Name(kind.elem_type), shape)


def _made_for(package: Package, packed: PackedModel) -> str:
    name = manifest_path(Path(packed.name)).as_posix()
    if name not in packed.companions:
        raise ArtifactError(
            f"{package.path}: {packed.name} is packed without its manifest, which names the GPU it "
            "runs on; package it again"
        )
    manifest = manifest_from_json(package.read(name), f"{package.path}: {name}")
    if not manifest.targets:
        raise ArtifactError(
            f"{package.path}: the manifest of {packed.name} names no GPU that it runs on; build it "
            "again with edgedetr export engine"
        )
    if not any(re.match(r"tensorrt[=>]=", v) for v in manifest.versions):
        raise ArtifactError(
            f"{package.path}: {packed.name} was built with {', '.join(manifest.versions)}, which "
            "no server runs; build it with edgedetr export engine --backend tensorrt"
        )
    return f"{', '.join(manifest.targets)} ({', '.join(manifest.versions)})"
