"""The models that are compared: a checkpoint, an ONNX file of any precision, an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.export.verify.query_ties import Outputs
    from edgedetr.graph.exact import ExactGraph, Precision
    from edgedetr.runtime.spec import ModelSpec


class Runner(Protocol):
    """A model that runs on images.

    Attributes:
        spec: The contract of the model.
        precision: The coarsest precision in it.
        batch_sizes: The batch sizes to try, smallest first.
    """

    spec: ModelSpec
    precision: Precision
    batch_sizes: tuple[int, ...]

    def __call__(self, images: NDArray[np.float32]) -> Outputs:
        """Return logits (B, Q, K) and boxes (B, Q, 4) for images (B, 3, H, W).

        The returned arrays are valid until the next call.
        """
        ...


@runtime_checkable
class GraphRunner(Protocol):
    """A runner of a graph that can be read.

    Attributes:
        graph: What it computes.
    """

    graph: ExactGraph


@runtime_checkable
class CheckpointRunner(Protocol):
    """A runner of a checkpoint."""

    def in_float(self) -> Runner:
        """Return the same network without INT8 rounding."""
        ...

    def traced(self) -> ExactGraph:
        """Return the graph that its export writes."""
        ...


def open_runner(path: Path, spec: ModelSpec | None = None) -> Runner:
    """Load a ``.safetensors`` checkpoint, an ``.onnx`` file or an ``.engine``.

    A checkpoint that was trained for INT8 rounds as its INT8 export does.

    Args:
        path: The file.
        spec: The contract of a foreign model; a file that carries its own keeps that.

    Raises:
        UsageError: If it is none of them.
        ArtifactError: If the file is missing, damaged or without a spec, or cannot run here.
    """
    if path.suffix == ".safetensors":
        from edgedetr.distill.weights.checkpoint import load_model
        from edgedetr.export.verify.runners.torch import TorchRunner

        return TorchRunner(load_model(path), as_int8=True)
    if path.suffix == ".onnx":
        from edgedetr.export.verify.runners.onnx import OnnxRunner

        return OnnxRunner(path, spec)
    if path.suffix == ".engine":
        from edgedetr.export.verify.runners.engine import EngineRunner

        return EngineRunner(path, spec)
    raise UsageError(
        f"{path}: wanted a .safetensors checkpoint, an .onnx model or a TensorRT .engine"
    )


def compared_with(other: Runner, runner: Runner) -> Runner:
    """Return a runner as it is compared with another.

    A checkpoint that was trained for INT8 rounds to INT8 only where the other model is INT8.
    """
    if isinstance(runner, CheckpointRunner) and other.precision != "int8":
        return runner.in_float()
    return runner


def graph_of(runner: Runner, *, traced: bool) -> ExactGraph | None:
    """Return the graph of a model, or None where it has none that can be read.

    Args:
        runner: The model.
        traced: Whether to trace a checkpoint, which takes as long as its export.
    """
    if isinstance(runner, GraphRunner):
        return runner.graph
    if traced and isinstance(runner, CheckpointRunner):
        return runner.traced()
    return None
