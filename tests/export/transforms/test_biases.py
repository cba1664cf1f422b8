"""Biases that take back a shift of the mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
from onnx import numpy_helper

from edgedetr.calib.placement import points
from edgedetr.export.transforms.biases import shift_biases
from edgedetr.export.transforms.qdq_nodes import NodeMaker
from edgedetr.graph.wiring import Wiring, replace_items

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    Build = Callable[..., onnx.ModelProto]

SHIFT = [1.0, -2.0]
IMAGES = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
W = np.eye(2).reshape(2, 2, 1, 1)


def run(model: onnx.ModelProto) -> Any:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"images": IMAGES})[0]


def shifted(model: onnx.ModelProto, name: str) -> Any:
    """Shift the result ``name`` and return by how much the output moved."""
    before = run(model)
    wiring = Wiring(model.graph)
    chosen = points(wiring, "openvino")
    added = shift_biases(wiring, chosen, {name: SHIFT}, NodeMaker(model.graph))
    nodes = [n for i, node in enumerate(wiring.nodes) for n in (node, *added.get(i, ()))]
    replace_items(model.graph.node, nodes)
    return run(model) - before


@pytest.mark.parametrize("bias", [[], ["b"]])
def test_a_convolution_is_shifted_by_channel(onnx_model: Build, bias: list[str]) -> None:
    model = onnx_model(
        [("Conv", "conv", ["images", "w", *bias], "y", {})],
        {"w": W, "b": np.array([3.0, 4.0])},
        inputs={"images": (1, 2, 2, 2)},
        outputs=["y"],
    )
    moved = shifted(model, "y")
    np.testing.assert_allclose(moved, np.broadcast_to([[[1.0]], [[-2.0]]], (2, 2, 2))[None])
    assert [n.op_type for n in model.graph.node] == ["Conv"]


@pytest.mark.parametrize("addition", [True, False])
def test_a_matrix_product_is_shifted_by_its_last_axis(onnx_model: Build, *, addition: bool) -> None:
    """The bias that is added behind it takes the shift; without one an addition is made."""
    nodes: list[Any] = [("MatMul", "fc", ["images", "w"], "m" if addition else "y", {})]
    nodes += [("Add", "bias", ["b", "m"], "y", {})] if addition else []
    model = onnx_model(
        nodes,
        {"w": np.eye(2), "b": np.array([3.0, 4.0])},
        inputs={"images": (1, 2, 2, 2)},
        outputs=["y"],
    )
    moved = shifted(model, "m" if addition else "y")
    np.testing.assert_allclose(moved, np.broadcast_to(SHIFT, (1, 2, 2, 2)))
    assert [n.op_type for n in model.graph.node] == ["MatMul", "Add"]


def test_a_bias_that_others_read_stays_as_it_was_for_them(onnx_model: Build) -> None:
    model = onnx_model(
        [
            ("Conv", "one", ["images", "w", "b"], "a", {}),
            ("Conv", "two", ["images", "w", "b"], "c", {}),
            ("Sub", "difference", ["a", "c"], "y", {}),
        ],
        {"w": W, "b": np.array([3.0, 4.0])},
        inputs={"images": (1, 2, 2, 2)},
        outputs=["y"],
    )
    np.testing.assert_allclose(
        shifted(model, "a"), np.broadcast_to([[[1.0]], [[-2.0]]], (2, 2, 2))[None]
    )
    kept = next(t for t in model.graph.initializer if t.name == "b")
    assert numpy_helper.to_array(kept).tolist() == [3.0, 4.0]
