"""Run an engine of TensorRT or TensorRT-RTX on the GPU, to compare it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedetr.export.runners import check_answer
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.manifest import manifest_path, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedetr.export.exact import Precision
    from edgedetr.export.runners import Answer
    from edgedetr.runtime.spec import ModelSpec

LIBRARIES = ("tensorrt", "tensorrt_rtx")


class EngineRunner:
    """An engine on the first GPU; buffers and stream are torch's.

    Its spec and its precision are those of its manifest and of the ONNX file that this names, where
    it lies beside the engine; without that file it is held to the limits of FP32.
    """

    def __init__(self, path: Path, spec: ModelSpec | None = None) -> None:
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; build it: edgedetr export engine")
        self.spec = _spec(path, spec)
        self.precision: Precision = _precision(path)
        self._name = str(path)
        self._torch = _torch_with_gpu(path)
        self._engine, self._context = _deserialized(path)
        smallest, _, largest = self._engine.get_tensor_profile_shape(self.spec.input_name, 0)
        self.batch_sizes: tuple[int, ...] = tuple(
            sorted({smallest[0], min(smallest[0] + 1, largest[0]), largest[0]})
        )

    def __call__(self, images: NDArray[np.float32]) -> Answer:
        """Answer images (B, 3, H, W); see `edgedetr.export.runners.Runner`.

        An engine of a larger batch sees the images as often as it takes to fill it.
        """
        torch, context, spec, count = self._torch, self._context, self.spec, len(images)
        fed = np.resize(images, (max(count, self.batch_sizes[0]), *images.shape[1:]))
        buffers = {spec.input_name: torch.from_numpy(fed).cuda()}
        if not context.set_input_shape(spec.input_name, fed.shape):
            raise ArtifactError(f"{self._name} takes no input of shape {fed.shape}")
        for name in (spec.logits_name, spec.boxes_name):
            shape = tuple(context.get_tensor_shape(name))
            buffers[name] = torch.empty(shape, dtype=torch.float32, device="cuda")
        for name, buffer in buffers.items():
            if not context.set_tensor_address(name, buffer.data_ptr()):
                raise ArtifactError(f"{self._name} has no tensor {name}")
        stream = torch.cuda.current_stream()
        if not context.execute_async_v3(stream.cuda_stream):
            raise ArtifactError(f"{self._name}: TensorRT could not run it")
        stream.synchronize()
        logits, boxes = (buffers[n].cpu().numpy() for n in (spec.logits_name, spec.boxes_name))
        check_answer(logits, boxes, spec, len(fed), self._name)
        return logits[:count], boxes[:count]


def _spec(path: Path, spec: ModelSpec | None) -> ModelSpec:
    if manifest_path(path).is_file():
        return read_manifest(path).spec
    if spec is None:
        raise ArtifactError(
            f"{path} has no manifest beside it that says what it eats; give --spec SPEC.toml"
        )
    return spec


def _precision(path: Path) -> Precision:
    """Return the precision of the ONNX file that an engine was built from."""
    from edgedetr.calib.onnx_file import load_onnx
    from edgedetr.export.exact import precision_of

    parents = read_manifest(path).parents if manifest_path(path).is_file() else ()
    beside = [path.with_name(parent.name) for parent in parents]
    models = [p for p in beside if p.suffix == ".onnx" and p.is_file()]
    return precision_of(load_onnx(models[0])) if models else "fp32"


def _torch_with_gpu(path: Path) -> Any:  # noqa: ANN401
    import torch

    if not torch.cuda.is_available():
        raise ArtifactError(
            f"{path} runs on an NVIDIA GPU and torch finds none here; verify it on the device that "
            "it was built for"
        )
    return torch


def _deserialized(path: Path) -> tuple[Any, Any]:
    """Load an engine with the first library that takes it, and make its context."""
    refused = []
    for name in LIBRARIES:
        try:
            library = importlib.import_module(name)
        except ImportError:
            refused.append(f"{name} is not installed")
            continue
        logger = library.Logger(library.Logger.ERROR)
        engine = library.Runtime(logger).deserialize_cuda_engine(path.read_bytes())
        if engine is not None:
            return engine, engine.create_execution_context()
        refused.append(f"{name} {library.__version__} does not take it")
    raise ArtifactError(
        f"{path} cannot be loaded here: {', '.join(refused)}; build it on this machine: edgedetr "
        "export engine"
    )
