"""Run an ONNX file in exactly the precision that it is typed in, to compare it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgedetr.export.verify.query_ties import Selection, SelectionError
from edgedetr.graph.contract import check_declared, check_output_arrays
from edgedetr.graph.exact import exact_graph, exact_session, run_session
from edgedetr.graph.model_file import embedded_spec, load_onnx
from edgedetr.graph.wiring import replace_items
from edgedetr.runtime.decode import decode
from edgedetr.runtime.spec import METADATA_KEY
from edgedetr.runtime.spec_checks.values import example_input

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnxruntime
    from numpy.typing import NDArray

    from edgedetr.export.verify.query_ties import Outputs
    from edgedetr.graph.exact import ExactGraph
    from edgedetr.runtime.spec import ModelSpec

MAX_FREE_BATCH = 4
"""The largest batch that is run where a model takes any."""


class OnnxRunner:
    """An ONNX file in ONNX Runtime, which computes it exactly as it is typed.

    Attributes:
        graph: What it computes.

    Raises:
        ArtifactError: If the file is missing, damaged or without a spec, or does not fit its spec.
    """

    def __init__(self, path: Path, spec: ModelSpec | None = None) -> None:
        model = load_onnx(path)
        carries_one = any(p.key == METADATA_KEY for p in model.metadata_props)
        self.spec = spec if spec and not carries_one else embedded_spec(model, path)
        smallest = check_declared(model, self.spec, path)
        takes_any = _takes_any(model, self.spec)
        self.batch_sizes: tuple[int, ...] = (1, 2, MAX_FREE_BATCH) if takes_any else (smallest,)
        self.graph: ExactGraph = exact_graph(model)
        self.precision = self.graph.precision
        self._name = str(path)
        self._session = exact_session(self.graph.model, self._name)
        self._selecting: dict[bool, tuple[SelectionGraph, onnxruntime.InferenceSession]] = {}
        image = example_input(self.spec)
        check_output_arrays(self._tensors(image), model, self.spec, path, smallest)

    def __call__(self, images: NDArray[np.float32]) -> Outputs:
        """Run the model on images (B, 3, H, W); see `edgedetr.export.verify.runner.Runner`.

        Where a file has a fixed larger batch, the images are repeated until they fill it.
        """
        logits, boxes = decode(self._tensors(images), self.spec)
        return logits[: len(images)], boxes[: len(images)]

    def _tensors(self, images: NDArray[np.float32]) -> list[NDArray[Any]]:
        spec = self.spec
        fed = np.resize(images, (max(len(images), self.batch_sizes[0]), *images.shape[1:]))
        return run_session(self._session, spec.output_names, {spec.input_name: fed}, self._name)

    def select(
        self, images: NDArray[np.float32], forced: Sequence[Selection] = ()
    ) -> tuple[Outputs, list[Selection]]:
        """See `edgedetr.export.verify.query_ties.SelectingRunner`."""
        if self.batch_sizes[0] != len(images):
            raise SelectionError
        if bool(forced) not in self._selecting:
            graph = selection_graph(self.graph.model, forced=bool(forced))
            self._selecting[bool(forced)] = graph, exact_session(graph.model, self._name)
        graph, session = self._selecting[bool(forced)]
        if forced and len(graph.indices) != len(forced):
            raise SelectionError
        spec = self.spec
        feeds: dict[str, NDArray[Any]] = {spec.input_name: images}
        feeds |= {n: s.indices for n, s in zip(graph.indices, forced, strict=False)}
        names = (*spec.output_names, *graph.scores, *(() if forced else graph.indices))
        tensors = run_session(session, names, feeds, self._name)
        own, found = tensors[: len(spec.output_names)], tensors[len(spec.output_names) :]
        scores = found[: len(graph.scores)]
        indices = [s.indices for s in forced] if forced else found[len(graph.scores) :]
        return decode(own, spec), [Selection(s, i) for s, i in zip(scores, indices, strict=True)]


@dataclass(frozen=True)
class SelectionGraph:
    """A graph whose query selections are inputs, or outputs beside its own.

    Attributes:
        model: The graph.
        scores: Names of the tensors that are selected from; outputs.
        indices: Names of what is selected: outputs, or inputs where the selections are forced.
    """

    model: onnx.ModelProto
    scores: tuple[str, ...]
    indices: tuple[str, ...]


def selection_graph(model: onnx.ModelProto, *, forced: bool) -> SelectionGraph:
    """Make the selections of a graph, its ``TopK`` nodes, inputs or outputs."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    nodes: list[onnx.NodeProto] = []
    scores, indices = [], []
    for node in graph.node:
        if node.op_type != "TopK":
            nodes.append(node)
            continue
        scores.append(node.input[0])
        indices.append(f"{node.output[1]}::forced" if forced else node.output[1])
        nodes += _gathering(node, indices[-1]) if forced else [node]
    replace_items(graph.node, nodes)
    places = graph.input if forced else graph.output
    places.extend(helper.make_tensor_value_info(n, TensorProto.INT64, None) for n in indices)
    known = {value.name for value in graph.output}
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in dict.fromkeys(scores)
        if name not in known
    )
    return SelectionGraph(made, tuple(scores), tuple(indices))


def _gathering(node: onnx.NodeProto, indices: str) -> list[onnx.NodeProto]:
    """Return the nodes that gather at given indices where a ``TopK`` node took the best."""
    axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
    values, taken = node.output
    gathered = [node.input[0], indices], [values], f"{node.name}::gathered"
    return [
        helper.make_node("Identity", [indices], [taken], f"{node.name}::taken"),
        helper.make_node("GatherElements", *gathered, axis=axis),
    ]


def _takes_any(model: onnx.ModelProto, spec: ModelSpec) -> bool:
    """Tell whether a graph leaves the batch size free."""
    shape = next(i.type.tensor_type.shape for i in model.graph.input if i.name == spec.input_name)
    return bool(shape.dim[0].dim_value == 0)
