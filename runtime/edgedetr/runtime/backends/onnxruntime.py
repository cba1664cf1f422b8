"""Run ONNX files with ONNX Runtime on the CPU; its providers for GPUs have files of their own."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from edgedetr.runtime.decode import decode
from edgedetr.runtime.errors import ArtifactError, BackendError, UsageError
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec, no_spec, spec_from_json
from edgedetr.runtime.spec_checks.tensors import (
    check_inputs,
    check_output_names,
    check_outputs,
    extra_feeds,
)
from edgedetr.runtime.spec_checks.values import check_values, example_input

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".onnx",)

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

_AS_WRITTEN = "session.disable_quant_qdq"
_WIDE_SUMS = "session.x64quantprecision"
_FATAL_ONLY = 4  # every error is also raised; logging it would repeat it
_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
}


def open_session(
    path: Path,
    spec: ModelSpec | None = None,
    *,
    threads: int | None = None,
    exact: bool = False,
    provider: str = CPU,
    steady: bool = False,
) -> OnnxSession:
    """Load an ONNX file of a static batch.

    Q/DQ pairs become INT8 kernels, whose sums do not saturate on CPUs without VNNI either. Pairs of
    FP16 may have no such kernel: where ONNX Runtime refuses what it made of them itself, they are
    computed as they are written.

    Args:
        path: The ONNX file.
        spec: Replaces the spec in the file's metadata, for foreign models.
        threads: Threads that compute one frame; as many as there are cores when None.
        exact: Compute Q/DQ pairs as they are written, for parity checks.
        provider: The execution provider that must run the model. Nodes that it cannot do run on
            the CPU; where it does not start nothing takes its place.
        steady: Whether threads that wait sleep instead of spinning.

    Raises:
        ArtifactError: If the file is missing, damaged, without a spec or not what the spec says.
        UsageError: If this ONNX Runtime lacks the provider.
        BackendError: If the provider does not start on this machine.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; export the model first: edgedetr export onnx")
    options = session_options(threads, steady=steady)
    if exact:
        options.add_session_config_entry(_AS_WRITTEN, "1")
    engine = _load(path, options, provider)
    return OnnxSession(engine, spec or _stored_spec(engine, path), path)


def session_options(threads: int | None = None, *, steady: bool = False) -> ort.SessionOptions:
    """Return how ONNX Runtime runs every model here: silent, and with INT8 sums that fit.

    Args:
        threads: Threads that compute one frame; as many as there are cores when None.
        steady: Whether threads that wait sleep instead of spinning.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = threads or 0
    options.add_session_config_entry(_WIDE_SUMS, "1")
    if steady:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def start_engine(
    path: Path, options: ort.SessionOptions, providers: list[str]
) -> ort.InferenceSession:
    """Load a file; where that fails, try it without INT8 kernels.

    Args:
        path: The ONNX file.
        options: See `session_options`.
        providers: Execution providers, the most wanted first.

    Raises:
        Exception: Whatever ONNX Runtime raises for the file.
    """
    start = partial(ort.InferenceSession, str(path), options, providers=providers)
    try:
        return start(enable_fallback=0)  # which would print and go on with the CPU
    except Exception:
        options.add_session_config_entry(_AS_WRITTEN, "1")
        with suppress(Exception):  # the first error says what is wrong with the file
            return start(enable_fallback=0)
        raise


class OnnxSession:
    """A loaded ONNX model with input and output buffers that ONNX Runtime uses in place.

    Attributes:
        spec: The contract of the model.
        images: The input buffer, float32 (B, 3, H, W); the caller writes into it.
        runs_on: Library and provider, for a reader.
    """

    def __init__(self, engine: ort.InferenceSession, spec: ModelSpec, path: Path) -> None:
        inputs = _described(engine.get_inputs())
        batch = check_inputs(inputs, spec, path)
        self.spec = spec
        self.runs_on = f"onnxruntime {ort.__version__}, {engine.get_providers()[0]}"
        self.images: NDArray[np.float32] = example_input(spec, batch)
        self._feeds = {spec.input_name: self.images, **extra_feeds(inputs, spec, path)}
        self._outputs = _first_outputs(engine, spec, self._feeds, path)
        self.images[...] = 0
        self._engine: ort.InferenceSession | None = engine
        self._binding = engine.io_binding()
        for name, array in self._feeds.items():
            _bind(self._binding.bind_input, name, array)
        for name, array in zip(spec.output_names, self._outputs, strict=True):
            _bind(self._binding.bind_output, name, array)

    def infer(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run on ``images``; return logits (B, Q, K) and boxes (B, Q, 4), owned by the session.

        The returned arrays are valid until the next call.

        Raises:
            ValueError: If the session is closed.
            BackendError: If ONNX Runtime fails.
            ArtifactError: If the outputs are not what the spec says; see `decode`.
        """
        if self._engine is None:
            raise ValueError("the session is closed")
        try:
            self._engine.run_with_iobinding(self._binding)
        except Exception as error:  # ONNX Runtime's errors share no class of their own
            raise BackendError(f"ONNX Runtime failed: {error}") from error
        return decode(self._outputs, self.spec)

    def close(self) -> None:
        """Free the model; a second call does nothing."""
        self._engine = self._binding = None


def _load(path: Path, options: ort.SessionOptions, provider: str) -> ort.InferenceSession:
    """Load a file with one provider; others do the rest of a graph, but never all of it."""
    available = ort.get_available_providers()
    if provider not in available:
        raise UsageError(
            f"onnxruntime {ort.__version__} has no {provider}, only {', '.join(available)}; "
            "install a build that has it, such as onnxruntime-gpu"
        )
    providers = [p for p in dict.fromkeys((provider, CPU)) if p in available]
    try:
        engine = start_engine(path, options, providers)
    except Exception as error:  # ONNX Runtime's errors share no class of their own
        raise ArtifactError(
            f"{path}: ONNX Runtime cannot load it, export it again: {error}"
        ) from error
    if engine.get_providers()[0] != provider:
        raise BackendError(
            f"{provider} does not start on this machine, ONNX Runtime would use "
            f"{engine.get_providers()[0]}; check the driver and the versions of CUDA and cuDNN, "
            "or choose the backend onnxruntime"
        )
    return engine


def _stored_spec(engine: ort.InferenceSession, path: Path) -> ModelSpec:
    try:
        text = engine.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path}: its metadata is no text; export it again") from error
    if text is None:
        raise no_spec(path)
    return spec_from_json(text, str(path))


def _described(tensors: Any) -> dict[str, tuple[str, list[int | str]]]:  # noqa: ANN401
    return {t.name: (_TYPES.get(t.type, t.type), list(t.shape)) for t in tensors}


def _first_outputs(
    engine: ort.InferenceSession,
    spec: ModelSpec,
    feeds: Mapping[str, NDArray[Any]],
    path: Path,
) -> list[NDArray[Any]]:
    """Run once, because a file may leave the shapes of its outputs open, and check these.

    Returns:
        Arrays like the outputs.
    """
    check_output_names(_described(engine.get_outputs()), spec, path)
    names = spec.output_names
    try:
        outputs = engine.run(names, dict(feeds))
    except Exception as error:
        raise ArtifactError(f"{path}: ONNX Runtime cannot run it: {error}") from error
    found = {n: (str(a.dtype), a.shape) for n, a in zip(names, outputs, strict=True)}
    check_outputs(found, spec, path, len(feeds[spec.input_name]))
    check_values(outputs, spec, path)
    return [np.zeros_like(a) for a in outputs]


def _bind(bind: Any, name: str, array: NDArray[Any]) -> None:  # noqa: ANN401
    bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
