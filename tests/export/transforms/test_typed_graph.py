"""The typed graph computes what its types say, with each constant and branch in its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable

    Build = Callable[..., onnx.ModelProto]
    Halve = Callable[..., Any]
    Run = Callable[..., Any]

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def test_every_result_is_rounded_to_fp16(between_heads: Build, halved: Halve, answers: Run) -> None:
    """ONNX Runtime's CPU would keep 1 + 2^-12 between two FP16 nodes; FP16 has it not."""
    model = between_heads(
        ("Mul", "nearly_one", ["x", "a"], "y", {}),
        ("Sub", "less", ["y", "one"], "f", {}),
        w=np.eye(3).reshape(3, 3, 1, 1),
        a=[1 + 2.0**-10],
        one=[1.0],
    )
    images = np.full((1, 3, 4, 4), 1 + 2.0**-10, np.float32)
    logits, _ = answers(halved(model).model, images)
    assert np.unique(logits) == [2 * 2.0**-9], "(1 + 2^-10)^2 is 1 + 2^-9 + 2^-20"
    assert np.unique(answers(model, images)[0]) == pytest.approx(
        [2 * (2.0**-9 + 2.0**-20)], rel=1e-4
    )


def test_branches_stay_fp32_with_what_they_read(
    between_heads: Build, halved: Halve, answers: Run
) -> None:
    model = between_heads(("Identity", "f", ["x"], "f", {}), yes=np.array(True))
    out = helper.make_tensor_value_info("b", FLOAT, None)
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["b"])], "body", [], [out])
    branch = helper.make_node("If", ["yes"], ["f"], "branch", then_branch=body, else_branch=body)
    nodes = [branch if n.name == "f" else n for n in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    half = halved(model)
    assert (half.types["stem"], half.share.islands["types"]) == (FLOAT, 2)
    images = np.random.default_rng(0).random((1, 3, 4, 4), np.float32)
    np.testing.assert_allclose(answers(half.model, images)[0], answers(model, images)[0], rtol=2e-3)


def test_constants_of_nodes_and_shared_constants(between_heads: Build, halved: Halve) -> None:
    """One constant is read on both sides of a border and is stored twice."""
    model = between_heads(
        ("Constant", "c", [], "k", {"value": numpy_helper.from_array(np.array(0.3, np.float32))}),
        ("ConstantOfShape", "zeros", ["size"], "o", {}),
        ("Add", "same", ["x", "o"], "s", {}),
        ("Mul", "narrow", ["s", "k"], "y", {}),
        ("Conv", "mix", ["y", "w"], "v", {}),
        ("Mul", "wide", ["v", "k"], "z", {}),
        ("Sin", "sine", ["z"], "f", {}),
        size=np.array([1]),
    )
    half = halved(model)
    assert {
        t.name: t.data_type for t in half.model.graph.initializer if t.name.startswith("k")
    } == {
        "k_fp16": HALF,
        "k_fp32": FLOAT,
    }
    assert not any(n.op_type == "Constant" for n in half.model.graph.node)
    assert [half.types[n] for n in ("zeros", "narrow", "wide")] == [HALF, HALF, FLOAT]
