"""Graphs of a convolution, some nodes and two heads, and what becomes of them in FP16."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edgedetr.export.transforms.halve import halve
from edgedetr.graph.exact import exact_graph, exact_session
from edgedetr.graph.wiring import element_types
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgedetr.export.transforms.halve import HalfShare

    Build = Callable[..., onnx.ModelProto]

SPEC = ModelSpec((4, 4), ("Car",))
W = np.random.default_rng(0).normal(size=(3, 3, 1, 1))
HEADS: tuple[Any, ...] = (
    ("Mul", "class_head", ["f", "two"], "logits", {}),
    ("Conv", "box_head", ["f", "w"], "deltas", {}),
    ("Sigmoid", "to_boxes", ["deltas"], "boxes", {}),
)
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


@pytest.fixture
def between_heads(onnx_model: Build) -> Build:
    """Puts nodes between ``x``, the features of a convolution, and ``f``, which two heads read."""

    def build(*nodes: tuple[Any, ...], **constants: object) -> onnx.ModelProto:
        return onnx_model(
            [("Conv", "stem", ["images", "w"], "x", {}), *nodes, *HEADS],
            {"w": W, "two": [2.0], **constants},
            inputs={"images": (1, 3, 4, 4)},
            outputs=["logits", "boxes"],
            spec=SPEC,
        )

    return build


@dataclass(frozen=True, eq=False)
class Halved:
    """A typed graph, the type in which each of its nodes answers, and its share."""

    model: onnx.ModelProto
    types: dict[str, int]
    share: HalfShare


@pytest.fixture
def halved() -> Callable[[onnx.ModelProto], Halved]:
    """Halves a model and checks the types of what it becomes."""

    def make(model: onnx.ModelProto) -> Halved:
        half, share = halve(model, SPEC)
        check_types(half)
        types = element_types(half)
        return Halved(half, {n.name: types[n.output[0]] for n in half.graph.node}, share)

    return make


@pytest.fixture
def answers() -> Callable[..., list[NDArray[np.float32]]]:
    """Runs a model on images, node by node in the types of its graph; gives logits and boxes."""

    def run(model: onnx.ModelProto, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        session = exact_session(exact_graph(model).model, "model")
        return [np.asarray(v) for v in session.run(["logits", "boxes"], {"images": images})]

    return run


def check_types(model: onnx.ModelProto) -> None:
    """What must hold of every typed graph: no two types meet, and no Cast undoes another."""
    onnx.checker.check_model(model, full_check=True)
    types = element_types(model)
    assert {types[v.name] for v in (*model.graph.input, *model.graph.output)} == {FLOAT}
    made_by = {name: n for n in model.graph.node for name in n.output}
    casts = [n for n in model.graph.node if n.op_type == "Cast"]
    floats = [n for n in casts if {types[n.input[0]], types[n.output[0]]} == {FLOAT, HALF}]
    sources = Counter(n.input[0] for n in floats)
    assert set(sources.values()) <= {1}, "a tensor is cast twice"
    for node in floats:
        before = made_by.get(node.input[0])
        assert before is None or before not in floats, f"{node.name} undoes {before.name}"
    for node in model.graph.node:
        if node.op_type in {"Add", "Sub", "Mul", "Div", "Pow", "MatMul", "Concat", "Conv", "Where"}:
            read = {types[i] for i in node.input} & {FLOAT, HALF}
            assert len(read | {types[node.output[0]]} & {FLOAT, HALF}) <= 1, node.name
