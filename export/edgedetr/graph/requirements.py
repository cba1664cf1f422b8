"""Check an ONNX file, also one from another exporter, before it is rewritten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import version_converter

from edgedetr.graph.contract import check_contract
from edgedetr.graph.exact import coarsest_precision
from edgedetr.graph.model_file import embedded_spec
from edgedetr.graph.sampling_plugin import define_plugin, is_defined, is_plugin
from edgedetr.graph.wiring import label
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.runtime.spec import ModelSpec


def spec_of(model: onnx.ModelProto, path: Path, spec: ModelSpec | None) -> ModelSpec:
    """Return the given spec, or else the one inside the model, and check the model against it.

    Inputs beside the image become constants of ``model``, and labels of INT64 become INT32: what
    64 bits are at the ends of a graph changes between versions of TensorRT.

    Raises:
        ArtifactError: If there is none, or the model is not what it says; see `check_contract`.
    """
    spec = spec or embedded_spec(model, path)
    check_contract(model, spec, path)
    if spec.labels_name:
        _narrow(model, spec.labels_name)
    return spec


def _narrow(model: onnx.ModelProto, output: str) -> None:
    """Let an output of INT64 be INT32."""
    narrow, wide = onnx.TensorProto.INT32, onnx.TensorProto.INT64
    found = next(o for o in model.graph.output if o.name == output).type.tensor_type
    if found.elem_type != wide:
        return
    found.elem_type = narrow
    name = f"{output}_int64"
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [name if n == output else n for n in names]
    model.graph.node.append(onnx.helper.make_node("Cast", [name], [output], to=narrow))


def check_float(model: onnx.ModelProto, path: Path) -> None:
    """Refuse a model that is in FP16 or INT8 already.

    Raises:
        ArtifactError: If it is.
    """
    found = coarsest_precision(model)
    if found != "fp32":
        raise ArtifactError(
            f"{path} is in {found.upper()} already; start from the FP32 model that it was made from"
        )


def opset_of(model: onnx.ModelProto) -> int:
    """Return the opset of ONNX's own operators; 0 if the file names none."""
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def check_operators(model: onnx.ModelProto, path: Path) -> None:
    """Refuse operators that neither ONNX nor we define, whose types are unknown.

    Raises:
        ArtifactError: If ONNX does not define an operator.
    """
    unknown: dict[str, str] = {}
    for node in model.graph.node:
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        known = node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type, node.domain)
        known |= is_plugin(node) and is_defined(model)
        if not known:
            unknown.setdefault(name, label(node))
    if unknown:
        listed = ", ".join(f"{name} (at {where})" for name, where in unknown.items())
        raise ArtifactError(
            f"{path} has operators that ONNX does not define: {listed}; export it with standard "
            f"operators of opset {opset_of(model)}"
        )


def check_static(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> None:
    """Refuse inputs of free height or width: INT8, FP16 and their shares need known sizes.

    Raises:
        ArtifactError: If a size other than the batch is free.
    """
    constants = {t.name for t in model.graph.initializer}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in constants and any(d.dim_value < 1 for d in dims[1:]):
            shape = ", ".join(str(d.dim_value or d.dim_param or "?") for d in dims)
            wanted = (1, 3, *spec.input_hw)
            raise ArtifactError(
                f"{path}: the input {value.name} has free sizes ({shape}); export it with the "
                f"static shape {wanted}, or fix it with python -m "
                "onnxruntime.tools.make_dynamic_shape_fixed"
            )


def raise_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Return a model of a later opset that computes the same.

    Raises:
        ArtifactError: If ONNX cannot convert it.
    """
    if opset_of(model) >= opset:
        return model
    try:
        raised = version_converter.convert_version(model, opset)
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise ArtifactError(
            f"the model of opset {opset_of(model)} cannot become one of opset {opset}, which FP16 "
            f"beside INT8 needs: {said}; use --rest fp32"
        ) from error
    define_plugin(raised)
    return raised
