"""Where INT8 may go, on small graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgedetr.calib.placement import (
    calibration_tensors,
    concat_inputs,
    default_points,
    points,
    residuals,
)
from edgedetr.graph.wiring import Wiring, label

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    Build = Callable[..., onnx.ModelProto]

W = np.ones((2, 2, 1, 1))
IMAGES = {"images": (1, 2, 4, 4)}


def conv(name: str, reads: str, writes: str, weight: str = "w") -> tuple[object, ...]:
    return "Conv", name, [reads, weight], writes, {}


def test_convolutions_ahead_of_the_queries_are_found(onnx_model: Build) -> None:
    model = onnx_model(
        [
            ("Pad", "pad", ["images", "pads"], "padded", {}),
            conv("/backbone/stem", "padded", "a"),
            conv("/backbone/next", "a", "b"),
            conv("/decoder_input_proj", "b", "c"),
            ("Reshape", "", ["c", "flat"], "rows", {}),
            ("TopK", "topk", ["rows", "k"], ("best", "index"), {}),
            ("Reshape", "", ["best", "square"], "queries", {}),
            conv("/later", "queries", "d"),
        ],
        {
            "w": W,
            "pads": np.zeros(8, np.int64),
            "flat": np.array([1, 32]),
            "k": np.array([32]),
            "square": np.array([1, 2, 4, 4]),
        },
        inputs=IMAGES,
        outputs=["d"],
    )
    found = points(Wiring(model.graph))
    assert [(p.scope, p.kind, p.tensor, p.is_first) for p in found] == [
        ("/backbone/stem", "conv", "padded", True),
        ("/backbone/next", "conv", "a", False),
        ("/decoder_input_proj", "conv", "b", False),
    ]
    assert [p.scope for p in default_points(found, "openvino")] == ["/backbone/next"]
    assert calibration_tensors(model) == ["padded", "a", "b", "c"]


def test_linear_layers_are_found_by_the_name_of_their_bias(onnx_model: Build) -> None:
    eye = np.eye(4)
    model = onnx_model(
        [
            ("MatMul", "/encoder/mlp/fc1", ["images", "w1"], "a", {}),
            ("Gemm", "Gemm_7", ["a", "w2", "encoder.mlp.fc2.bias"], "b", {"transB": 1}),
            ("Gemm", "Gemm_8", ["b", "w3", "enc_score_head.bias"], "c", {}),
            ("MatMul", "/encoder/self_attn/q_proj", ["b", "w1"], "d", {}),
            ("MatMul", "two activations", ["a", "b"], "e", {}),
            ("Gemm", "transposed", ["a", "w1"], "f", {"transA": 1}),
        ],
        {
            "w1": eye,
            "w2": eye,
            "w3": eye,
            "encoder.mlp.fc2.bias": np.zeros(4),
            "enc_score_head.bias": np.zeros(4),
        },
        inputs={"images": (4, 4)},
        outputs=["c", "d", "e", "f"],
    )
    found = points(Wiring(model.graph))
    assert [(p.kind, p.scope) for p in found] == [
        ("linear", "/encoder/mlp/fc1 w1"),
        ("linear", "Gemm_7 w2 encoder.mlp.fc2.bias"),
    ]


def test_a_decoder_that_only_its_parameters_name_is_float_by_default(onnx_model: Build) -> None:
    """Its layers were called one by one, so that labels lack it; a head is what depends on it.

    The head is never INT8, a layer of the decoder where a search finds that it may be.
    """
    names = ["net.encoder.fc.bias", "net.decoder.layers.0.fc.bias", "net.box_predictor.bias"]
    layers = ["/encoder/fc", "/layers.0/fc", "/box_predictor"]
    nodes: list[tuple[object, ...]] = []
    tensor = "images"
    for layer, name in zip(layers, names, strict=True):
        nodes += [
            ("MatMul", f"{layer}/MatMul", [tensor, "w"], f"{layer}_m", {}),
            ("Add", f"{layer}/Add", [name, f"{layer}_m"], layer, {}),
        ]
        tensor = layer
    values = {"w": np.eye(4), **dict.fromkeys(names, np.zeros(4))}
    model = onnx_model(nodes, values, inputs={"images": (4, 4)}, outputs=[tensor])
    for target in ("tensorrt", "openvino"):
        found = points(Wiring(model.graph), target)
        assert [(p.scope.split()[0], p.is_delicate) for p in found] == [
            ("/encoder/fc/MatMul", False),
            ("/layers.0/fc/MatMul", True),
        ]
        assert not any(p.is_delicate for p in default_points(found, target))


def test_weights_behind_identity_and_constant_nodes_count(onnx_model: Build) -> None:
    from onnx import numpy_helper

    value = numpy_helper.from_array(W.astype(np.float32))
    model = onnx_model(
        [
            ("Identity", "", ["w"], "same", {}),
            ("Constant", "", [], "inline", {"value": value}),
            conv("one", "images", "a", "same"),
            conv("two", "a", "b", "inline"),
            conv("computed weights", "b", "c", "images"),
        ],
        {"w": W},
        inputs={"images": (2, 2, 1, 1)},
        outputs=["c"],
    )
    assert [p.scope for p in points(Wiring(model.graph))] == ["one", "two"]


def test_weights_of_other_types_and_ranks_do_not_count(onnx_model: Build) -> None:
    model = onnx_model(
        [conv("one-dimensional", "images", "a", "w")],
        {"w": np.ones((2, 2, 1))},
        inputs={"images": (1, 2, 4)},
        outputs=["a"],
    )
    assert not points(Wiring(model.graph))


def test_what_a_concat_joins(onnx_model: Build) -> None:
    model = onnx_model(
        [
            conv("first", "images", "a"),
            ("Relu", "relu", ["a"], "b", {}),
            ("Concat", "join", ["a", "grid", "b", "a"], "joined", {"axis": 1}),
            ("Relu", "", ["joined"], "x", {}),
        ],
        {"w": W, "grid": np.zeros((1, 1, 4, 4))},
        inputs=IMAGES,
        outputs=["x"],
    )
    wiring = Wiring(model.graph)
    assert concat_inputs(wiring, "joined") == ("a", "b")
    assert concat_inputs(wiring, "b") == ()
    assert concat_inputs(wiring, "images") == ()


@pytest.mark.parametrize("turned", [False, True])
def test_the_larger_convolution_absorbs_the_addition(onnx_model: Build, turned: bool) -> None:
    sides = ["small", "large"][:: -1 if turned else 1]
    model = onnx_model(
        [
            conv("first", "images", "a"),
            conv("1x1", "a", "small"),
            ("Conv", "3x3", ["a", "w3"], "large", {"pads": [1, 1, 1, 1]}),
            ("Add", "sum", sides, "y", {}),
        ],
        {"w": W, "w3": np.ones((2, 2, 3, 3))},
        inputs=IMAGES,
        outputs=["y"],
    )
    wiring = Wiring(model.graph)
    found = residuals(wiring, points(wiring))
    assert {label(wiring.nodes[i]): skip for i, skip in found.items()} == {"sum": "small"}
    assert set(calibration_tensors(model)) == {"images", "a", "small", "large"}


def test_additions_that_no_convolution_can_absorb(onnx_model: Build) -> None:
    model = onnx_model(
        [
            conv("first", "images", "a"),
            conv("read twice", "a", "b"),
            ("Add", "read twice", ["b", "a"], "c", {}),
            ("Relu", "", ["b"], "d", {}),
            ("Add", "constant", ["d", "bias"], "e", {}),
            conv("doubled", "e", "f"),
            ("Add", "itself", ["f", "f"], "g", {}),
        ],
        {"w": W, "bias": np.zeros((1, 2, 1, 1))},
        inputs=IMAGES,
        outputs=["c", "g"],
    )
    wiring = Wiring(model.graph)
    assert residuals(wiring, points(wiring)) == {}
