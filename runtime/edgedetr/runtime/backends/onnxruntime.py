"""Run ONNX files with ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec, spec_from_json

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".onnx",)

_FATAL_ONLY = 4  # every error is also raised, so what ONNX Runtime would log is said once
_FLOAT = "tensor(float)"


def open_session(
    path: Path, spec: ModelSpec | None = None, *, threads: int | None = None, exact: bool = False
) -> OnnxSession:
    """Load an ONNX file of static batch 1.

    Args:
        path: The ONNX file.
        spec: Replaces the spec in the file's metadata, for foreign models.
        threads: Threads that compute one frame; as many as there are cores when None.
        exact: Compute Q/DQ pairs as they are written instead of with INT8 kernels, which saturate
            on CPUs without VNNI. For parity checks; much slower.

    Raises:
        ArtifactError: If the file is missing, damaged, without a spec or not what the spec says.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; export the model first: edgedetr export onnx")
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = threads or 0
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        engine = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no class of their own
        raise ArtifactError(
            f"{path}: ONNX Runtime cannot load it, export it again: {error}"
        ) from error
    return OnnxSession(engine, spec or _stored_spec(engine, path), path)


class OnnxSession:
    """A loaded ONNX model with input and output buffers that ONNX Runtime uses in place.

    Attributes:
        spec: The contract of the model.
        images: The input buffer, float32 (1, 3, H, W); the caller writes into it.
    """

    def __init__(self, engine: ort.InferenceSession, spec: ModelSpec, path: Path) -> None:
        _check_input(engine, spec, path)
        self.spec = spec
        self.images: NDArray[np.float32] = np.zeros((1, 3, *spec.input_hw), np.float32)
        logits, boxes = _first_answers(engine, spec, self.images, path)
        self._logits, self._boxes = np.zeros_like(logits), np.zeros_like(boxes)
        self._engine: ort.InferenceSession | None = engine
        self._binding = engine.io_binding()
        _bind(self._binding.bind_input, spec.input_name, self.images)
        _bind(self._binding.bind_output, spec.logits_name, self._logits)
        _bind(self._binding.bind_output, spec.boxes_name, self._boxes)

    def infer(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run on ``images``; return logits (1, Q, K) and boxes (1, Q, 4), owned by the session.

        The returned arrays are valid until the next call.

        Raises:
            ValueError: If the session is closed.
        """
        if self._engine is None:
            raise ValueError("the session is closed")
        self._engine.run_with_iobinding(self._binding)
        return self._logits, self._boxes

    def close(self) -> None:
        """Free the model; a second call does nothing."""
        self._engine = self._binding = None


def _stored_spec(engine: ort.InferenceSession, path: Path) -> ModelSpec:
    text = engine.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ArtifactError(
            f"{path} holds no model spec ({METADATA_KEY} in its metadata); make it with "
            "edgedetr export onnx"
        )
    return spec_from_json(text, str(path))


def _check_input(engine: ort.InferenceSession, spec: ModelSpec, path: Path) -> None:
    found = {i.name: (i.type, list(i.shape)) for i in engine.get_inputs()}
    wanted = {spec.input_name: (_FLOAT, [1, 3, *spec.input_hw])}
    if found != wanted:
        raise ArtifactError(
            f"{path} takes {_listed(found)}, its spec says {_listed(wanted)}; "
            "export it with static batch 1"
        )


def _first_answers(
    engine: ort.InferenceSession, spec: ModelSpec, images: NDArray[np.float32], path: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Run once, because a file may leave the shapes of its outputs open, and check the answers."""
    names = [o.name for o in engine.get_outputs()]
    if missing := {spec.logits_name, spec.boxes_name} - set(names):
        raise ArtifactError(
            f"{path} answers {', '.join(names)}, its spec wants {' and '.join(sorted(missing))}"
        )
    try:
        logits, boxes = engine.run([spec.logits_name, spec.boxes_name], {spec.input_name: images})
    except Exception as error:
        raise ArtifactError(f"{path}: ONNX Runtime cannot run it: {error}") from error
    queries = boxes.shape[1] if boxes.ndim == 3 else "Q"
    wanted = ((1, queries, len(spec.class_names)), (1, queries, 4))
    if (logits.shape, boxes.shape) != wanted or (logits.dtype, boxes.dtype) != ("f4", "f4"):
        raise ArtifactError(
            f"{path} answers {logits.dtype} {logits.shape} and {boxes.dtype} {boxes.shape}, its "
            f"spec wants float32 logits {wanted[0]} and boxes {wanted[1]}"
        )
    return logits, boxes


def _listed(tensors: dict[str, tuple[str, list[Any]]]) -> str:
    return ", ".join(f"{name} {kind} {shape}" for name, (kind, shape) in tensors.items())


def _bind(bind: Any, name: str, array: NDArray[np.float32]) -> None:  # noqa: ANN401
    bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
