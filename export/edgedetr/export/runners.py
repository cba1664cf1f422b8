"""Run a checkpoint or an ONNX file of any precision on one image, to compare them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.distill.model import Model
    from edgedetr.export.deformable_attention import Form
    from edgedetr.runtime.spec import ModelSpec


class Runner(Protocol):
    """A model that answers.

    Attributes:
        spec: The contract of the model.
        is_quantized: Whether it computes anything in INT8.
    """

    spec: ModelSpec
    is_quantized: bool

    def __call__(
        self, images: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Answer images (1, 3, H, W) with logits (1, Q, K) and boxes (1, Q, 4).

        The returned arrays are valid until the next call.
        """
        ...


def open_runner(path: Path) -> Runner:
    """Load a ``.safetensors`` checkpoint or an ``.onnx`` file.

    Raises:
        UsageError: If it is neither.
        ArtifactError: If the file is missing, damaged or without a spec.
    """
    if path.suffix == ".safetensors":
        from edgedetr.distill.checkpoint import load_model

        return TorchRunner(load_model(path))
    if path.suffix == ".onnx":
        return OnnxRunner(path)
    raise UsageError(f"{path}: wanted a .safetensors checkpoint or an .onnx model")


class TorchRunner:
    """A network in PyTorch, on the CPU.

    Args:
        model: The network.
        sampling: How its deformable attention reads maps; its own way is ``grid_sample``.
    """

    def __init__(self, model: Model, sampling: Form = "grid_sample") -> None:
        self.spec = model.spec
        self.is_quantized = False
        self._model = model
        self._sampling = sampling

    def __call__(
        self, images: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Answer images (1, 3, H, W); see `Runner`."""
        import torch

        from edgedetr.export.deformable_attention import sampled_by

        model = self._model
        with torch.inference_mode(), sampled_by(self._sampling):
            logits, boxes = model.module.predict(model.network, torch.from_numpy(images))
        return logits.numpy(), boxes.numpy()


class OnnxRunner:
    """An ONNX file in ONNX Runtime, which computes Q/DQ pairs exactly as they are written."""

    def __init__(self, path: Path) -> None:
        from edgedetr.calib.onnx_file import load_onnx
        from edgedetr.runtime.backends.onnxruntime import open_session

        self._session = open_session(path, exact=True)
        self.spec = self._session.spec
        self.is_quantized = any(
            node.op_type == "DequantizeLinear" for node in load_onnx(path).graph.node
        )

    def __call__(
        self, images: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Answer images (1, 3, H, W); see `Runner`."""
        self._session.images[:] = images
        return self._session.infer()
