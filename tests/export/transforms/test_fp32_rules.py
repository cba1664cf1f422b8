"""What stays FP32: places, boxes, norms and logarithms, and values that FP16 does not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    Build = Callable[..., onnx.ModelProto]
    Halve = Callable[..., Any]

SPEC = ModelSpec((4, 4), ("Car",))
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


@pytest.mark.parametrize(
    ("op", "constant", "fits"),
    [
        ("Mul", 1e5, False),
        ("Mul", 3e4, False),
        ("Add", 7e4, False),
        ("Mul", 1e-9, False),
        ("Mul", 1e4, True),
        ("Add", 1e-9, True),
        ("Max", -np.inf, True),
    ],
)
def test_what_fp16_does_not_hold_stays_fp32(
    between_heads: Build, halved: Halve, op: str, constant: float, *, fits: bool
) -> None:
    """The features reach about 1: what becomes larger than 65504 / 4 has no room left."""
    model = between_heads(
        (op, "scaled", ["x", "c"], "y", {}),
        ("Tanh", "f", ["y"], "f", {}),
        w=np.eye(3).reshape(3, 3, 1, 1),
        c=[constant],
    )
    half = halved(model)
    assert half.types["scaled"] == (HALF if fits else FLOAT)
    assert ("range" in half.share.islands) == (not fits)


def test_a_guard_against_0_is_not_lost(between_heads: Build, halved: Halve) -> None:
    model = between_heads(
        ("Relu", "", ["x"], "r", {}),
        ("Add", "guarded", ["r", "c"], "y", {}),
        ("Div", "divided", ["x", "y"], "f", {}),
        c=[1e-9],
    )
    half = halved(model)
    assert half.types["guarded"] == FLOAT


def test_places_are_fp32_and_what_is_read_there_is_fp16(
    between_heads: Build, halved: Halve
) -> None:
    model = between_heads(
        ("Conv", "offsets", ["x", "w"], "o", {}),
        ("Mul", "scaled", ["o", "two"], "p", {}),
        ("Floor", "floor", ["p"], "q", {}),
        ("Cast", "index", ["q"], "i", {"to": TensorProto.INT64}),
        ("Clip", "clip", ["i", "zero", "top"], "j", {}),
        ("Sub", "share", ["p", "q"], "s", {}),
        ("Flatten", "rows", ["x"], "r", {}),
        ("Gather", "read", ["r", "j"], "g", {"axis": 1}),
        ("Squeeze", "cut", ["g", "axis"], "h", {}),
        ("Mul", "weighted", ["h", "s"], "f", {}),
        zero=np.int64(0),
        top=np.int64(47),
        axis=np.array([0]),
    )
    half = halved(model)
    assert [half.types[n] for n in ("offsets", "scaled", "floor", "index")] == [
        HALF,
        FLOAT,
        FLOAT,
        7,
    ]
    assert half.types["share"] == FLOAT  # of a cell: FP16 has sixteenths of one at 100
    assert [half.types[n] for n in ("rows", "read", "cut", "weighted")] == [HALF] * 4
    assert half.share.islands["positions"] == 4


def test_a_grid_and_its_sampling_are_fp32(between_heads: Build, halved: Halve) -> None:
    model = between_heads(
        ("Slice", "grid", ["x", "from", "to", "axis"], "xy", {}),
        ("Transpose", "last", ["xy"], "at", {"perm": [0, 2, 3, 1]}),
        ("GridSample", "sample", ["x", "at"], "f", {"align_corners": 0}),
        **{"from": np.array([0]), "to": np.array([2]), "axis": np.array([1])},
    )
    half = halved(model)
    assert {half.types[n] for n in ("grid", "last", "sample")} == {FLOAT}
    assert (half.types["stem"], half.share.islands["positions"]) == (HALF, 3)


def test_inverse_sigmoids_are_fp32(between_heads: Build, halved: Halve) -> None:
    model = between_heads(
        ("Sigmoid", "s", ["x"], "p", {}),
        ("Sub", "rest", ["one", "p"], "q", {}),
        ("Div", "odds", ["p", "q"], "o", {}),
        ("Log", "log", ["o"], "l", {}),
        ("Conv", "embed", ["l", "w"], "f", {}),
        one=[1.0],
    )
    half = halved(model)
    assert {half.types[n] for n in ("s", "rest", "odds", "log")} == {FLOAT}
    assert (half.types["embed"], half.share.islands["logarithms"]) == (HALF, 4)


def test_a_norm_of_several_nodes_is_fp32(between_heads: Build, halved: Halve) -> None:
    model = between_heads(
        ("Pow", "square", ["x", "two"], "s", {}),
        ("ReduceMean", "mean", ["s"], "m", {"axes": [1]}),
        ("Add", "guard", ["m", "eps"], "g", {}),
        ("Sqrt", "root", ["g"], "r", {}),
        ("Div", "norm", ["x", "r"], "n", {}),
        ("Mul", "weigh", ["n", "two"], "f", {}),
        eps=[1e-6],
    )
    half = halved(model)
    assert {half.types[n] for n in ("square", "mean", "guard", "root", "norm")} == {FLOAT}
    assert (half.types["weigh"], half.share.islands["normalisation"]) == (HALF, 5)


def test_the_mean_of_a_distribution_is_fp32_on_the_way_to_boxes(
    onnx_model: Build, halved: Halve
) -> None:
    model = onnx_model(
        [
            ("Conv", "stem", ["images", "w"], "x", {}),
            ("Reshape", "corners", ["x", "rows"], "c", {}),
            ("MatMul", "head", ["c", "m"], "h", {}),
            ("Softmax", "chances", ["h"], "p", {}),
            ("MatMul", "integral", ["p", "steps"], "d", {}),
            ("Reshape", "four", ["d", "square"], "boxes", {}),
            ("Transpose", "turned", ["c"], "c2", {"perm": [0, 2, 1]}),
            ("Softmax", "other", ["c"], "o", {}),
            ("MatMul", "attention", ["o", "c2"], "logits", {}),
        ],
        {
            "w": np.random.default_rng(0).normal(size=(3, 3, 1, 1)),
            "rows": np.array([1, 12, 4]),
            "square": np.array([1, 3, 4]),
            "m": np.ones((4, 5)),
            "steps": np.linspace(-1, 1, 5).reshape(5, 1),
        },
        inputs={"images": (1, 3, 4, 4)},
        outputs=["logits", "boxes"],
        spec=SPEC,
    )
    half = halved(model)
    assert {half.types[n] for n in ("chances", "integral", "four")} == {FLOAT}
    assert {half.types[n] for n in ("head", "other", "attention")} == {HALF}
