"""Check an ONNX file against its spec before it is converted: what `detect` refuses, all refuse.

Types and shapes are what the file declares. What the numbers mean is seen by the operators before
the outputs and by running it once, see `edgedetr.runtime.spec_checks.values`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgedetr.graph.exact import exact_session, run_session
from edgedetr.graph.wiring import replace_items
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec_checks.tensors import (
    check_inputs,
    check_output_names,
    check_outputs,
    extra_feeds,
)
from edgedetr.runtime.spec_checks.values import check_values, example_input

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import onnxruntime
    from numpy.typing import NDArray

    from edgedetr.runtime.spec import ModelSpec
    from edgedetr.runtime.spec_checks.tensors import Tensors

ACTIVATIONS = {"Sigmoid": "sigmoid", "HardSigmoid": "sigmoid", "Softmax": "softmax"}

_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE}
_MOVES = {
    *("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Slice"),
    *("Gather", "GatherElements", "GatherND", "Split", "TopK", "ReduceMax", "Concat"),
    *("QuantizeLinear", "DequantizeLinear"),
}
"""Operators that pass values on unchanged."""


def check_contract(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> int:
    """Stop unless a model's inputs and outputs are what its spec says, by types and by values.

    Inputs beside the image become constants of ``model``. A graph that ONNX Runtime does not open
    is checked by what it declares.

    Args:
        model: The model.
        spec: Its contract.
        path: Where it was found, for the messages.

    Returns:
        How many images it takes at once; 1 where that is open.

    Raises:
        ArtifactError: If it does not hold.
    """
    batch = check_declared(model, spec, path)
    try:
        session = exact_session(model, str(path), fused="none")
    except ArtifactError:  # whoever runs the model will say it
        _check_activation(model, spec, path)
        return batch
    outputs = _run(session, spec, path, batch)
    check_output_arrays([outputs[name] for name in spec.output_names], model, spec, path, batch)
    return batch


def outputs_of(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> dict[str, NDArray[Any]]:
    """Check the inputs of a model and return all its outputs, by name, for an example image.

    Inputs beside the image become constants of ``model``.

    Raises:
        ArtifactError: If the inputs are not what the spec says, or ONNX Runtime cannot run it.
    """
    batch = _check_inputs(model, spec, path)
    return _run(exact_session(model, str(path), fused="none"), spec, path, batch)


def check_declared(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> int:
    """Do what `check_contract` does, without running the model."""
    _check_finite(model, path)
    batch = _check_inputs(model, spec, path)
    first = next(i for i in model.graph.input if i.name == spec.input_name)
    is_free = not first.type.tensor_type.shape.dim[0].dim_value
    outputs = described(onnx.shape_inference.infer_shapes(model).graph.output)
    check_output_names(outputs, spec, path)
    if all(outputs[name][1] for name in spec.output_names):  # of known ranks
        check_outputs(outputs, spec, path, "B" if is_free else batch)
    return batch


def check_output_arrays(
    outputs: Sequence[NDArray[Any]], model: onnx.ModelProto, spec: ModelSpec, path: Path, batch: int
) -> None:
    """Stop unless a model's outputs for an image are what its spec says.

    The values are checked before the operators, so that every runner gives the same message.

    Args:
        outputs: The outputs, in the order of ``spec.output_names``.
        model: The model.
        spec: The contract of the model.
        path: The model, for the message.
        batch: How many images it was given.

    Raises:
        ArtifactError: If types, shapes, numbers or the last operators are others.
    """
    found = {n: (str(a.dtype), a.shape) for n, a in zip(spec.output_names, outputs, strict=True)}
    check_outputs(found, spec, path, batch)
    check_values(outputs, spec, path)
    _check_activation(model, spec, path)


def _check_finite(model: onnx.ModelProto, path: Path) -> None:
    """Stop at weights that are no numbers; infinity may be a mask."""
    for tensor in model.graph.initializer:
        if tensor.data_type in _FLOATS and np.isnan(numpy_helper.to_array(tensor)).any():
            raise ArtifactError(
                f"{path}: the constant {tensor.name} holds NaN; its training diverged, or the file "
                "is damaged: export it again from a sound checkpoint"
            )


def _check_activation(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> None:
    found = activation_before(model, spec.logits_name)
    if found and spec.activation.endswith("_logits"):
        raise ArtifactError(
            f"{path}: {spec.logits_name} is the output of a {found}, but the spec has activation = "
            f'"{spec.activation}"; set activation = "{ACTIVATIONS[found]}" or read the tensor '
            "before it"
        )


def described(values: Iterable[onnx.ValueInfoProto]) -> Tensors:
    """Name type and shape of tensors; an open size is a word."""
    found = {}
    for value in values:
        tensor = value.type.tensor_type
        kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
        sizes = [d.dim_value or d.dim_param or "?" for d in tensor.shape.dim]
        found[value.name] = (kind, sizes)
    return found


def activation_before(model: onnx.ModelProto, name: str) -> str:
    """Return the operator that made scores of an output, a key of `ACTIVATIONS`, or nothing.

    Of several tensors that were joined to one output the last is that of the classes.
    """
    producers = {output: node for node in model.graph.node for output in node.output}
    while (node := producers.get(name)) is not None:
        if node.op_type in ACTIVATIONS:
            return str(node.op_type)
        if node.op_type not in _MOVES:
            break
        name = node.input[-1 if node.op_type == "Concat" else 0]
    return ""


def _check_inputs(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> int:
    constants = {t.name for t in model.graph.initializer}
    inputs = described(i for i in model.graph.input if i.name not in constants)
    batch = check_inputs(inputs, spec, path, may_be_open=True)
    for name, value in extra_feeds(inputs, spec, path, batch).items():
        _fix(model, name, value)
    return batch


def _run(
    session: onnxruntime.InferenceSession, spec: ModelSpec, path: Path, batch: int
) -> dict[str, NDArray[Any]]:
    feed = {spec.input_name: example_input(spec, batch)}
    outputs = run_session(session, None, feed, str(path))
    return dict(zip((o.name for o in session.get_outputs()), outputs, strict=True))


def _fix(model: onnx.ModelProto, name: str, value: NDArray[Any]) -> None:
    """Make a constant of an input."""
    replace_items(model.graph.input, [i for i in model.graph.input if i.name != name])
    model.graph.initializer.append(numpy_helper.from_array(value, name))
