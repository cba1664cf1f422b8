"""Run a checkpoint in PyTorch, to compare it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from edgedetr.distill.networks.fake_quantization import simulated
from edgedetr.export.transforms.deformable_attention import sampled_by
from edgedetr.export.transforms.simplify import simplify
from edgedetr.export.transforms.trace import trace
from edgedetr.export.transforms.trained_ranges import trained_graph
from edgedetr.export.verify.query_ties import Selection, SelectionError
from edgedetr.graph.exact import exact_graph
from edgedetr.graph.model_file import load_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.distill.model import Model
    from edgedetr.export.transforms.deformable_attention import Form
    from edgedetr.export.verify.query_ties import Outputs
    from edgedetr.graph.exact import ExactGraph, Precision


class TorchRunner:
    """A network in PyTorch, on the CPU.

    Args:
        model: The network.
        sampling: How its deformable attention reads feature maps; ``grid_sample`` is its own way.
        as_int8: Whether a network that was trained for INT8 rounds as its INT8 export does.
    """

    batch_sizes: tuple[int, ...] = (1,)

    def __init__(
        self, model: Model, sampling: Form = "grid_sample", *, as_int8: bool = False
    ) -> None:
        self.spec = model.spec
        self.model = model
        self._sampling = sampling
        self._quantization = model.quantization if as_int8 else None
        self.precision: Precision = "int8" if self._quantization else "fp32"

    def in_float(self) -> TorchRunner:
        """Return the same network without INT8 rounding."""
        return TorchRunner(self.model, self._sampling)

    def __call__(self, images: NDArray[np.float32]) -> Outputs:
        """Run the network on images (B, 3, H, W); see `edgedetr.export.verify.runner.Runner`."""
        model, rounding = self.model, simulated(self.model.network, self._quantization)
        with torch.inference_mode(), sampled_by(self._sampling, model.network), rounding:
            logits, boxes = model.predict(torch.from_numpy(images))
        return logits.numpy(), boxes.numpy()

    def select(
        self, images: NDArray[np.float32], forced: Sequence[Selection] = ()
    ) -> tuple[Outputs, list[Selection]]:
        """See `edgedetr.export.verify.query_ties.SelectingRunner`."""
        with TopKSelections(forced) as selections:
            outputs = self(images)
        if forced and len(selections.made) != len(forced):
            raise SelectionError
        return outputs, selections.made

    def traced(self) -> ExactGraph:
        """Return the graph that ``edgedetr export onnx`` writes, for INT8 ``export qdq``."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "traced.onnx"
            trace(self.model, path)
            graph = simplify(load_onnx(path)).model
        if self._quantization:
            graph = trained_graph(graph, self.model, self._quantization)
        return exact_graph(graph)


class TopKSelections(TorchFunctionMode):
    """Records each ``topk`` that runs inside the block, or replaces its result.

    Attributes:
        made: The selections so far.
    """

    def __init__(self, forced: Sequence[Selection] = ()) -> None:
        super().__init__()
        self.made: list[Selection] = []
        self._forced = forced

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Any = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if func not in {torch.topk, torch.Tensor.topk}:
            return found
        scores, indices = args[0], found.indices
        if self._forced:
            indices = torch.from_numpy(_next(self._forced, len(self.made), tuple(indices.shape)))
            dim = kwargs.get("dim", -1) if kwargs else -1
            dim = args[2] if len(args) > 2 else dim
            found = type(found)((scores.gather(dim, indices), indices))
        self.made.append(Selection(scores.numpy().copy(), indices.numpy().copy()))
        return found


def _next(forced: Sequence[Selection], count: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    if count >= len(forced) or forced[count].indices.shape != shape:
        raise SelectionError
    return forced[count].indices
