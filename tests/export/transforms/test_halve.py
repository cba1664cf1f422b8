"""What becomes FP16, what stays FP32, and that the result computes what its types say."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.export.to_fp16 import frames_of
from edgedetr.export.transforms.halve import halve
from edgedetr.graph.exact import exact_graph, exact_session
from edgedetr.graph.wiring import element_types
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Build = Callable[..., onnx.ModelProto]

SPEC = ModelSpec((4, 4), ("Car",))
IMAGES = {"images": (1, 3, 4, 4)}
W = np.random.default_rng(0).normal(size=(3, 3, 1, 1))
HEADS: tuple[Any, ...] = (
    ("Mul", "class_head", ["f", "two"], "logits", {}),
    ("Conv", "box_head", ["f", "w"], "deltas", {}),
    ("Sigmoid", "to_boxes", ["deltas"], "boxes", {}),
)
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def build(onnx_model: Build, *nodes: tuple[Any, ...], **constants: object) -> onnx.ModelProto:
    """Nodes from ``x``, the features of a convolution, to ``f``, behind which come two heads."""
    return onnx_model(
        [("Conv", "stem", ["images", "w"], "x", {}), *nodes, *HEADS],
        {"w": W, "two": [2.0], **constants},
        inputs=IMAGES,
        outputs=["logits", "boxes"],
        spec=SPEC,
    )


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """The type in which each node, by its name, answers."""
    types = element_types(model)
    return {n.name: types[n.output[0]] for n in model.graph.node}


def run(model: onnx.ModelProto, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    session = exact_session(exact_graph(model).model, "model")
    return [np.asarray(v) for v in session.run(["logits", "boxes"], {"images": images})]


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


def test_everything_between_the_ends_is_fp16(onnx_model: Build) -> None:
    model = build(onnx_model, ("Relu", "act", ["x"], "f", {}))
    before = model.SerializeToString()
    half, share = halve(model, SPEC)
    assert model.SerializeToString() == before
    check_types(half)
    assert types_of(half) == {
        "images_fp16_Cast": HALF,
        "stem": HALF,
        "act": HALF,
        "class_head": HALF,
        "logits_Cast": FLOAT,
        "box_head": HALF,
        "deltas_fp32_Cast": FLOAT,
        "to_boxes": FLOAT,
    }
    assert {t.name: t.data_type for t in half.graph.initializer} == {
        "w_fp16": HALF,
        "two_fp16": HALF,
    }
    assert (share.nodes, share.float_nodes, share.casts) == (4, 5, 3)
    assert share.half_macs == share.macs == 2 * 3 * 3 * 16
    assert share.islands == {"boxes": 1}
    assert share.describe() == (
        "4 of 5 nodes and 100.0% of 0.000 GMACs in FP16, 3 casts; FP32: 1 nodes (boxes 1)"
    )


def test_every_result_is_rounded_to_fp16(onnx_model: Build) -> None:
    """ONNX Runtime's CPU would keep 1 + 2^-12 between two FP16 nodes; FP16 has it not."""
    model = build(
        onnx_model,
        ("Mul", "nearly_one", ["x", "a"], "y", {}),
        ("Sub", "less", ["y", "one"], "f", {}),
        w=np.eye(3).reshape(3, 3, 1, 1),
        a=[1 + 2.0**-10],
        one=[1.0],
    )
    images = np.full((1, 3, 4, 4), 1 + 2.0**-10, np.float32)
    logits, _ = run(halve(model, SPEC)[0], images)
    assert np.unique(logits) == [2 * 2.0**-9], "(1 + 2^-10)^2 is 1 + 2^-9 + 2^-20"
    assert np.unique(run(model, images)[0]) == pytest.approx([2 * (2.0**-9 + 2.0**-20)], rel=1e-4)


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
    onnx_model: Build, op: str, constant: float, *, fits: bool
) -> None:
    """The features reach about 1: what becomes larger than 65504 / 4 has no room left."""
    model = build(
        onnx_model,
        (op, "scaled", ["x", "c"], "y", {}),
        ("Tanh", "f", ["y"], "f", {}),
        w=np.eye(3).reshape(3, 3, 1, 1),
        c=[constant],
    )
    half, share = halve(model, SPEC)
    check_types(half)
    assert types_of(half)["scaled"] == (HALF if fits else FLOAT)
    assert ("range" in share.islands) == (not fits)


def test_a_guard_against_0_is_not_lost(onnx_model: Build) -> None:
    model = build(
        onnx_model,
        ("Relu", "", ["x"], "r", {}),
        ("Add", "guarded", ["r", "c"], "y", {}),
        ("Div", "divided", ["x", "y"], "f", {}),
        c=[1e-9],
    )
    half, _ = halve(model, SPEC)
    check_types(half)
    assert types_of(half)["guarded"] == FLOAT


def test_places_are_fp32_and_what_is_read_there_is_fp16(onnx_model: Build) -> None:
    model = build(
        onnx_model,
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
    half, share = halve(model, SPEC)
    check_types(half)
    types = types_of(half)
    assert [types[n] for n in ("offsets", "scaled", "floor", "index")] == [HALF, FLOAT, FLOAT, 7]
    assert types["share"] == FLOAT  # of a cell: FP16 has sixteenths of one at 100
    assert [types[n] for n in ("rows", "read", "cut", "weighted")] == [HALF] * 4
    assert share.islands["positions"] == 4


def test_a_grid_and_its_sampling_are_fp32(onnx_model: Build) -> None:
    model = build(
        onnx_model,
        ("Slice", "grid", ["x", "from", "to", "axis"], "xy", {}),
        ("Transpose", "last", ["xy"], "at", {"perm": [0, 2, 3, 1]}),
        ("GridSample", "sample", ["x", "at"], "f", {"align_corners": 0}),
        **{"from": np.array([0]), "to": np.array([2]), "axis": np.array([1])},
    )
    half, share = halve(model, SPEC)
    check_types(half)
    types = types_of(half)
    assert {types[n] for n in ("grid", "last", "sample")} == {FLOAT}
    assert (types["stem"], share.islands["positions"]) == (HALF, 3)


def test_inverse_sigmoids_are_fp32(onnx_model: Build) -> None:
    model = build(
        onnx_model,
        ("Sigmoid", "s", ["x"], "p", {}),
        ("Sub", "rest", ["one", "p"], "q", {}),
        ("Div", "odds", ["p", "q"], "o", {}),
        ("Log", "log", ["o"], "l", {}),
        ("Conv", "embed", ["l", "w"], "f", {}),
        one=[1.0],
    )
    half, share = halve(model, SPEC)
    check_types(half)
    types = types_of(half)
    assert {types[n] for n in ("s", "rest", "odds", "log")} == {FLOAT}
    assert (types["embed"], share.islands["logarithms"]) == (HALF, 4)


def test_a_norm_of_several_nodes_is_fp32(onnx_model: Build) -> None:
    model = build(
        onnx_model,
        ("Pow", "square", ["x", "two"], "s", {}),
        ("ReduceMean", "mean", ["s"], "m", {"axes": [1]}),
        ("Add", "guard", ["m", "eps"], "g", {}),
        ("Sqrt", "root", ["g"], "r", {}),
        ("Div", "norm", ["x", "r"], "n", {}),
        ("Mul", "weigh", ["n", "two"], "f", {}),
        eps=[1e-6],
    )
    half, share = halve(model, SPEC)
    check_types(half)
    types = types_of(half)
    assert {types[n] for n in ("square", "mean", "guard", "root", "norm")} == {FLOAT}
    assert (types["weigh"], share.islands["normalisation"]) == (HALF, 5)


def test_the_mean_of_a_distribution_is_fp32_on_the_way_to_boxes(onnx_model: Build) -> None:
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
            "w": W,
            "rows": np.array([1, 12, 4]),
            "square": np.array([1, 3, 4]),
            "m": np.ones((4, 5)),
            "steps": np.linspace(-1, 1, 5).reshape(5, 1),
        },
        inputs=IMAGES,
        outputs=["logits", "boxes"],
        spec=SPEC,
    )
    half, _ = halve(model, SPEC)
    check_types(half)
    types = types_of(half)
    assert {types[n] for n in ("chances", "integral", "four")} == {FLOAT}
    assert {types[n] for n in ("head", "other", "attention")} == {HALF}


def test_branches_stay_fp32_with_what_they_read(onnx_model: Build) -> None:
    model = build(onnx_model, ("Identity", "f", ["x"], "f", {}), yes=np.array(True))
    out = helper.make_tensor_value_info("b", FLOAT, None)
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["b"])], "body", [], [out])
    branch = helper.make_node("If", ["yes"], ["f"], "branch", then_branch=body, else_branch=body)
    nodes = [branch if n.name == "f" else n for n in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    half, share = halve(model, SPEC)
    onnx.checker.check_model(half, full_check=True)
    assert (types_of(half)["stem"], share.islands["types"]) == (FLOAT, 2)
    images = np.random.default_rng(0).random((1, 3, 4, 4), np.float32)
    np.testing.assert_allclose(run(half, images)[0], run(model, images)[0], rtol=2e-3)


def test_constants_of_nodes_and_shared_constants(onnx_model: Build) -> None:
    """One constant is read on both sides of a border and is stored twice."""
    model = build(
        onnx_model,
        ("Constant", "c", [], "k", {"value": numpy_helper.from_array(np.array(0.3, np.float32))}),
        ("ConstantOfShape", "zeros", ["size"], "o", {}),
        ("Add", "same", ["x", "o"], "s", {}),
        ("Mul", "narrow", ["s", "k"], "y", {}),
        ("Conv", "mix", ["y", "w"], "v", {}),
        ("Mul", "wide", ["v", "k"], "z", {}),
        ("Sin", "sine", ["z"], "f", {}),
        size=np.array([1]),
    )
    half, _ = halve(model, SPEC)
    check_types(half)
    assert {t.name: t.data_type for t in half.graph.initializer if t.name.startswith("k")} == {
        "k_fp16": HALF,
        "k_fp32": FLOAT,
    }
    assert not any(n.op_type == "Constant" for n in half.graph.node)
    types = types_of(half)
    assert [types[n] for n in ("zeros", "narrow", "wide")] == [HALF, HALF, FLOAT]


def test_ranges_are_measured_on_the_images_that_are_given(
    onnx_model: Build, tmp_path: Path
) -> None:
    """Black images leave the features at 0, so that nothing seems to overflow."""
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((4, 4, 3), np.uint8))
    nodes: tuple[Any, ...] = (
        ("Mul", "scaled", ["x", "c"], "y", {}),
        ("Tanh", "f", ["y"], "f", {}),
    )
    model = build(onnx_model, *nodes, c=[6e4])
    assert "range" not in halve(model, SPEC, frames_of(tmp_path))[1].islands
    assert halve(model, SPEC)[1].islands["range"] == 2
    broken = build(onnx_model, *nodes, c=[np.nan])
    with pytest.raises(DataError, match="the tensor y holds NaN already in FP32"):
        halve(broken, SPEC)
