"""Multiply-accumulates, counted by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from edgedetr.graph import macs as graph
from edgedetr.graph.macs import count_nodes, int8_macs, macs
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Callable

    Build = Callable[..., onnx.ModelProto]


def test_convolutions_and_products(onnx_model: Build) -> None:
    model = onnx_model(
        [
            ("Conv", "full", ["images", "w"], "a", {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
            ("Conv", "depthwise", ["a", "dw"], "b", {"group": 4}),
            ("ConvTranspose", "up", ["b", "up_w"], "c", {"strides": [2, 2]}),
            ("MatMul", "product", ["c", "m"], "d", {}),
            ("Flatten", "", ["d"], "rows", {}),
            ("Gemm", "linear", ["rows", "g"], "e", {"transB": 1}),
            ("Gemm", "turned", ["rows", "g1"], "f", {"transA": 1}),
            ("Relu", "", ["e"], "y", {}),
        ],
        {
            "w": np.ones((4, 3, 3, 3)),
            "dw": np.ones((4, 1, 3, 3)),
            "up_w": np.ones((4, 2, 2, 2)),
            "m": np.ones((8, 5)),
            "g": np.ones((7, 40)),
            "g1": np.ones((1, 6)),
        },
        inputs={"images": (1, 3, 8, 12)},
        outputs=["y", "f"],
    )
    assert macs(model) == {
        "full": 4 * 4 * 6 * 3 * 9,
        "depthwise": 4 * 2 * 4 * 9,
        "up": 4 * 2 * 4 * 2 * 4,
        "product": 2 * 4 * 5 * 8,
        "linear": 40 * 7,
        "turned": 40 * 6 * 1,
    }
    assert count_nodes(model) == {
        "Conv": 2,
        "Gemm": 2,
        "ConvTranspose": 1,
        "Flatten": 1,
        "MatMul": 1,
        "Relu": 1,
    }


def test_a_free_batch_counts_as_one(onnx_model: Build) -> None:
    model = onnx_model(
        [("Conv", "c", ["images", "w"], "y", {})],
        {"w": np.ones((2, 3, 1, 1))},
        inputs={"images": ("batch", 3, 4, 4)},
        outputs=["y"],
    )
    assert macs(model) == {"c": 2 * 16 * 3}


def test_shapes_that_only_a_run_shows(onnx_model: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx_model(
        [
            ("NonZero", "", ["w"], "found", {}),
            ("Cast", "", ["found"], "rows", {"to": onnx.TensorProto.FLOAT}),
            ("MatMul", "m", ["images", "rows"], "y", {}),
        ],
        {"w": np.ones((2, 3))},
        inputs={"images": (5, 2)},
        outputs=["y"],
    )
    assert macs(model) == {"m": 5 * 6 * 2}
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 9
    with pytest.raises(ArtifactError, match="does not run on zeros"):
        macs(model)
    monkeypatch.setattr(graph, "_measured_shapes", None)
    assert macs(onnx.ModelProto()) == {}


def test_int8_nodes_read_dequantized_values_on_both_sides(onnx_model: Build) -> None:
    model = onnx_model(
        [
            ("QuantizeLinear", "", ["images", "s", "z"], "q", {}),
            ("DequantizeLinear", "", ["q", "s", "z"], "dq", {}),
            ("DequantizeLinear", "", ["w8", "s", "z"], "w", {}),
            ("Conv", "int8", ["dq", "w"], "a", {}),
            ("Conv", "weights only", ["a", "w"], "y", {}),
        ],
        {"s": np.float32(1), "z": np.int8(0), "w8": np.ones((3, 3, 1, 1), np.int8)},
        inputs={"images": (1, 3, 2, 2)},
        outputs=["y"],
    )
    assert int8_macs(model) == {"int8": 36}
    assert macs(model) == {"int8": 36, "weights only": 36}
