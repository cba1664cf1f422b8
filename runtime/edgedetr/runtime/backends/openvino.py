"""Run ONNX files with OpenVINO on the CPU, in place and without copies."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from openvino import opset13
from openvino.frontend import FrontEndManager

from edgedetr.runtime.decode import decode
from edgedetr.runtime.errors import ArtifactError, BackendError
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec, no_spec, spec_from_json
from edgedetr.runtime.spec_checks.tensors import (
    check_inputs,
    check_output_names,
    check_outputs,
    extra_feeds,
)
from edgedetr.runtime.spec_checks.values import check_values, example_input

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".onnx",)

_SETTINGS = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",  # or what reads INT8 weights may round its input, too
}
_AS_WRITTEN = {"LP_TRANSFORMS_MODE": False}  # Q/DQ pairs round and all computes in float32
_PROBED = 64  # products that the probe adds

_PLUGIN = "MultiscaleDeformableAttnPlugin_TRT"  # of --deformable-attention plugin

_METADATA = ["framework", METADATA_KEY]  # where OpenVINO keeps the metadata of an ONNX file


def open_session(
    path: Path,
    spec: ModelSpec | None = None,
    *,
    threads: int | None = None,
    steady: bool = False,  # noqa: ARG001 - its threads do not spin
) -> OpenVinoSession:
    """Load an ONNX file of a static batch.

    What is float in the file is computed in float32, also where the CPU has bfloat16; Q/DQ pairs
    become INT8 kernels. Where those saturate, as on CPUs without VNNI, the pairs round as they are
    written and the rest is float32, too; ``runs_on`` reports it.

    Args:
        path: The ONNX file.
        spec: Replaces the spec in the file's metadata, for foreign models.
        threads: Threads that compute one frame; as many as there are cores when None.
        steady: Has no effect here; see `edgedetr.runtime.session.BackendModule`.

    Raises:
        ArtifactError: If the file is missing, damaged, without a spec or not what the spec says.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; export the model first: edgedetr export onnx")
    model = read_graph(path)
    spec = spec or _stored_spec(model, path)
    inputs = _described(model.inputs)
    batch = check_inputs(inputs, spec, path)
    check_output_names(_described(model.outputs), spec, path)
    compiled = compiled_graph(model, path, threads)
    session = OpenVinoSession(compiled, spec, path, batch, extra_feeds(inputs, spec, path))
    if _runs_as_written(model):
        session.runs_on += ", INT8 in float32 because its INT8 kernels overflow on this CPU"
    return session


def read_graph(path: Path) -> ov.Model:
    """Read an ONNX file, and guard it against what OpenVINO would get wrong.

    Raises:
        ArtifactError: If OpenVINO cannot read it.
    """
    try:
        # named, or OpenVINO tries every frontend, and each complains on stderr
        frontend = FrontEndManager().load_by_framework("onnx")
        model = frontend.convert(frontend.load(str(path)))
        _guard_concats(model)
    except Exception as error:  # OpenVINO's errors share no class of their own
        reason = _reason(error)
        if _PLUGIN in reason:
            reason = (
                f"it has nodes of TensorRT's plugin {_PLUGIN}; export it with "
                "--deformable-attention gather, or run it with ONNX Runtime"
            )
        raise ArtifactError(f"{path}: OpenVINO cannot load it: {reason}") from error
    return model


def compiled_graph(
    model: ov.Model, path: Path, threads: int | None = None, *, profiled: bool = False
) -> ov.CompiledModel:
    """Compile a graph for the CPU, as every model is run here.

    Args:
        model: What `read_graph` returned.
        path: The file, for messages.
        threads: See `open_session`.
        profiled: Whether to measure how long each layer takes.

    Raises:
        ArtifactError: If OpenVINO cannot compile it.
    """
    settings: dict[str, Any] = dict(_SETTINGS)
    settings |= {"PERF_COUNT": True} if profiled else {}
    settings |= _AS_WRITTEN if _runs_as_written(model) else {}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    try:
        return ov.Core().compile_model(model, "CPU", settings)
    except Exception as error:
        raise ArtifactError(f"{path}: OpenVINO cannot compile it: {_reason(error)}") from error


class OpenVinoSession:
    """A compiled model whose input and output tensors are the session's arrays.

    Attributes:
        spec: The contract of the model.
        images: The input buffer, float32 (B, 3, H, W); the caller writes into it.
        runs_on: Library and device, for a reader.
    """

    def __init__(
        self,
        compiled: ov.CompiledModel,
        spec: ModelSpec,
        path: Path,
        batch: int,
        feeds: Mapping[str, NDArray[Any]],
    ) -> None:
        self.spec = spec
        self.runs_on = f"openvino {ov.__version__.partition('-')[0]}, CPU"
        self.images: NDArray[np.float32] = example_input(spec, batch)
        self._feeds = {spec.input_name: self.images, **feeds}
        request = compiled.create_infer_request()
        for name, array in self._feeds.items():
            request.set_tensor(name, _shared(array))
        self._outputs = _first_outputs(request, spec, path, batch)
        self.images[...] = 0
        for name, array in zip(spec.output_names, self._outputs, strict=True):
            request.set_tensor(name, _shared(array))
        self._request: ov.InferRequest | None = request
        self._compiled: ov.CompiledModel | None = compiled

    def infer(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run on ``images``; return logits (B, Q, K) and boxes (B, Q, 4), owned by the session.

        The returned arrays are valid until the next call.

        Raises:
            ValueError: If the session is closed.
            BackendError: If OpenVINO fails.
            ArtifactError: If the outputs are not what the spec says; see `decode`.
        """
        request = self._request
        if request is None:
            raise ValueError("the session is closed")
        try:
            request.start_async()  # infer() would wrap every output in a dictionary
            request.wait()
        except Exception as error:
            raise BackendError(f"OpenVINO failed: {_reason(error)}") from error
        return decode(self._outputs, self.spec)

    def kernel_types(self) -> dict[str, str]:
        """Return in what each layer of the compiled graph computes: ``f32``, ``i8``, ``u8``.

        A layer is named after the node of the ONNX file that it ends with.

        Raises:
            ValueError: If the session is closed.
        """
        if self._compiled is None:
            raise ValueError("the session is closed")
        layers = [(n, n.get_rt_info()) for n in self._compiled.get_runtime_model().get_ops()]
        known = [(n, info) for n, info in layers if "runtimePrecision" in info]
        return {n.get_friendly_name(): info["runtimePrecision"].astype(str) for n, info in known}

    def close(self) -> None:
        """Free the model; a second call does nothing."""
        self._request = self._compiled = None


def _runs_as_written(model: ov.Model) -> bool:
    """Return whether a graph has INT8 kernels that would saturate on this CPU."""
    return _is_quantized(model) and _int8_saturates()


def _is_quantized(model: ov.Model) -> bool:
    return any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())


@cache
def _int8_saturates() -> bool:
    """Return whether INT8 convolutions get a sum of large products wrong on this CPU.

    Without VNNI two products of an unsigned and a signed byte are added in 16 bits, which hold half
    of what two can be. What the CPU has is no answer, for an environment variable may forbid it.
    """
    shape = [1, _PROBED, 1, 1]
    images = opset13.parameter(shape, ov.Type.f32)
    ends = (np.float32(0), np.float32(255))
    rounded = opset13.fake_quantize(images, *ends, *ends, 256)
    stored = opset13.constant(np.full(shape, 127, np.int8))
    weights = opset13.multiply(opset13.convert(stored, "f32"), np.float32(1))
    sums = opset13.convolution(rounded, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    compiled = ov.Core().compile_model(ov.Model([sums], [images]), "CPU", _SETTINGS)
    found = float(compiled(np.full(shape, 255, np.float32))[0].item())
    return not np.isclose(found, _PROBED * 127 * 255, rtol=1e-3)


def _guard_concats(model: ov.Model) -> None:
    """Put an operation that changes nothing behind each Concat of dequantized tensors.

    OpenVINO (2026.4) moves the dequantization from before a Concat to behind it, and then loses
    scales: the demo's student missed a fifth of its objects. It moves nothing past a Maximum, and
    what quantizes after it still makes the Concat and the convolutions around it run in INT8.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Concat" and any(
            _is_dequantized(i.get_source_output().get_node()) for i in node.inputs()
        ):
            joined = node.output(0)
            kind, readers = joined.get_element_type(), list(joined.get_target_inputs())
            lowest = np.finfo(np.float32 if kind == ov.Type.f32 else np.float16).min
            same = opset13.maximum(joined, opset13.constant(lowest, kind))
            for reader in readers:
                reader.replace_source_output(same.output(0))


def _is_dequantized(node: Any) -> bool:  # noqa: ANN401
    """Return whether a node ends what DequantizeLinear becomes: Convert, Subtract, Multiply."""
    while node.get_type_name() in {"Multiply", "Subtract"}:
        node = node.input(0).get_source_output().get_node()
    return node.get_type_name() == "Convert" and bool(
        node.input(0).get_element_type().is_integral()
    )


def _stored_spec(model: ov.Model, path: Path) -> ModelSpec:
    if not model.has_rt_info(_METADATA):
        raise no_spec(path)
    return spec_from_json(model.get_rt_info(_METADATA).astype(str), str(path))


def _first_outputs(
    request: ov.InferRequest, spec: ModelSpec, path: Path, batch: int
) -> list[NDArray[Any]]:
    """Run once, because a file may leave the shapes of its outputs open; return arrays for them."""
    names = spec.output_names
    try:
        request.start_async()
        request.wait()
        outputs = [request.get_tensor(name).data for name in names]
    except Exception as error:
        raise ArtifactError(f"{path}: OpenVINO cannot run it: {_reason(error)}") from error
    found = {n: (str(a.dtype), a.shape) for n, a in zip(names, outputs, strict=True)}
    check_outputs(found, spec, path, batch)
    check_values(outputs, spec, path)
    return [np.zeros(a.shape, a.dtype) for a in outputs]


def _described(ports: Iterable[Any]) -> dict[str, tuple[str, list[int | str]]]:
    """Name type and shape of tensors; an open dimension is ``?``."""
    return {
        port.any_name: (
            np.dtype(port.element_type.to_dtype()).name,
            ["?" if d.is_dynamic else d.get_length() for d in port.partial_shape],
        )
        for port in ports
    }


def _shared(array: NDArray[Any]) -> ov.Tensor:
    return ov.Tensor(array, shared_memory=True)


def _reason(error: Exception) -> str:
    """Return the last lines of OpenVINO's message; the first are places in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    reasons = [x for x in lines if x and not x.startswith(("Exception from", "Check '"))]
    return " ".join(reasons) or str(error)
