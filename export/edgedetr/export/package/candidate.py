"""An ONNX model that shall ship, as the gates see it: its hashes, its precision, its contract."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import onnx

from edgedetr.export.transforms.stored_ranges import RANGES_KEY
from edgedetr.graph.checksum import joined_sha256, model_files, nodes_of, tensors_of
from edgedetr.graph.contract import check_contract
from edgedetr.graph.model_file import embedded_spec, load_onnx
from edgedetr.graph.sampling_plugin import is_defined, is_plugin
from edgedetr.runtime.errors import GateError, UsageError
from edgedetr.runtime.files import sha256
from edgedetr.runtime.manifest import manifest_path, read_manifest
from edgedetr.runtime.spec import METADATA_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgedetr.runtime.manifest import Manifest
    from edgedetr.runtime.package.format import Precision
    from edgedetr.runtime.spec import ModelSpec

_TYPES = onnx.TensorProto
_FULL = {_TYPES.FLOAT, _TYPES.DOUBLE, _TYPES.INT64, _TYPES.INT32, _TYPES.BOOL, _TYPES.STRING}
"""Types of constants that a model without reduced precision may hold."""

_PACKED = {
    *("DynamicQuantizeLinear", "DequantizeLinear", "QuantizeLinear", "MatMulInteger"),
    *("ConvInteger", "QLinearConv", "QLinearMatMul", "BitShift", "BitCast"),
    *("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot"),
}
"""Operators of ONNX itself that compute with few bits, or unpack what was stored in few."""

_MOVES = {
    *("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather"),
    *("GatherElements", "GatherND", "Concat", "Split", "Tile", "Expand"),
    *("Add", "Sub", "Mul", "Div", "Mod"),
}
"""Operators that hand whole numbers on."""

_MOST_INDICES = 256
"""Whole numbers of a constant that may become floats: sizes and steps, and no weights."""


@dataclass(frozen=True)
class Candidate:
    """An ONNX model that shall ship, or that one was made from.

    Attributes:
        path: Its file.
        parts: Hash of its file, then of each file of its external data.
        data: Files of its external data, relative to its folder, sorted.
        precision: Of its graph.
        spec: Its contract.
        is_foreign: Whether others made it: it holds no spec of its own.
        is_trained_for_int8: Whether it holds the ranges that it was trained with.
        manifest: What lies beside it, if anything does.
    """

    path: Path
    parts: tuple[str, ...]
    data: tuple[str, ...]
    precision: Precision
    spec: ModelSpec
    is_foreign: bool
    is_trained_for_int8: bool
    manifest: Manifest | None

    @property
    def sha256(self) -> str:
        """Hash of all its bytes, see `edgedetr.graph.checksum.model_sha256`."""
        own, *weights = self.parts
        return joined_sha256(own, list(zip(weights, self.data, strict=True)))


def read_candidate(path: Path, spec: ModelSpec | None) -> Candidate:
    """Read a model and check that it is whole and what its manifest says.

    Raises:
        ArtifactError: If a file is missing or damaged, was changed after its manifest, or is not
            what its spec says.
        UsageError: If ``spec`` is not the one that the model carries.
        GateError: If its manifest gives it another spec.
    """
    files = model_files(path) if path.is_file() else []
    parts = tuple(sha256(file) for file in files)  # before it is read: packed is the same
    model = load_onnx(path)
    keys = {p.key for p in model.metadata_props}
    if METADATA_KEY in keys:
        own = embedded_spec(model, path)
        if spec not in (None, own):
            raise UsageError(f"{path} carries a spec that differs from --spec; leave --spec out")
        spec = own
    spec = spec or embedded_spec(model, path)
    check_contract(model, spec, path)
    manifest = read_manifest(path) if manifest_path(path).is_file() else None
    if manifest and manifest.spec != spec:
        raise GateError(f"the spec in {manifest_path(path)} is not that of {path}; export it again")
    return Candidate(
        path=path,
        parts=parts,
        data=tuple(file.relative_to(path.parent).as_posix() for file in files[1:]),
        precision=precision_for_gates(model),
        spec=spec,
        is_foreign=METADATA_KEY not in keys,
        is_trained_for_int8=RANGES_KEY in keys,
        manifest=manifest,
    )


def precision_for_gates(model: onnx.ModelProto) -> Precision:
    """Tell the precision of a graph: FP32 is what nothing but known FP32 is.

    That are operators of ONNX that are not for few bits, and constants of whole types. All else is
    FP16 where its types say no more than that, and INT8 otherwise: weights in four bits, operators
    of other domains, whole numbers that become weights.
    """
    nodes = list(nodes_of(model))
    types = {tensor.data_type for tensor in tensors_of(model)}
    types |= {a.i for n in nodes if n.op_type == "Cast" for a in n.attribute if a.name == "to"}
    half = {_TYPES.FLOAT16, _TYPES.BFLOAT16}
    ours = is_defined(model)  # its function is among the nodes
    known = [n for n in nodes if _is_known(n) or (ours and is_plugin(n))]
    unknown = len(known) < len(nodes) or any(n.op_type in _PACKED for n in nodes)
    if unknown or not types <= _FULL | half or _holds_integer_weights(model, nodes):
        return "int8"
    return "fp16" if types & half else "fp32"


def _is_known(node: onnx.NodeProto) -> bool:
    """Tell whether ONNX itself defines an operator."""
    return node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type, "")


def _holds_integer_weights(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> bool:
    """Tell whether a large constant of whole numbers becomes floats."""
    floats = {_TYPES.FLOAT, _TYPES.DOUBLE, _TYPES.FLOAT16, _TYPES.BFLOAT16}
    constants = {t.name: t for t in model.graph.initializer}
    constants |= {n.output[0]: a.t for n in nodes for a in n.attribute if a.HasField("t")}
    large = {
        name
        for name, tensor in constants.items()
        if tensor.data_type in {_TYPES.INT64, _TYPES.INT32, _TYPES.BOOL}
        and prod(tensor.dims) > _MOST_INDICES
    }
    while more := {
        o for n in nodes if n.op_type in _MOVES and large & {*n.input} for o in n.output
    }:
        if more <= large:
            break
        large |= more
    return any(
        n.op_type == "Cast" and n.input[0] in large and a.name == "to" and a.i in floats
        for n in nodes
        for a in n.attribute
    )
