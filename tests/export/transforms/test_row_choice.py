"""Layers move behind a choice of rows, and compute the same there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest

from edgedetr.export.transforms.row_choice import rows_chosen_first
from edgedetr.graph.macs import macs

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    Build = Callable[..., onnx.ModelProto]

ROWS, CHOSEN, WIDE = 12, 3, 5


@pytest.fixture
def head(onnx_model: Build) -> Callable[..., onnx.ModelProto]:
    """Makes a head of two layers over all rows, plus anchors, of which the best are chosen."""

    def make(*more: tuple[object, ...], outputs: tuple[str, ...] = ("boxes",)) -> onnx.ModelProto:
        rng = np.random.default_rng(0)
        nodes = [
            ("MatMul", "/score", ["images", "ws"], "scores", {}),
            ("Squeeze", "/squeeze", ["scores", "last"], "flat", {}),
            ("TopK", "/topk", ["flat", "k"], ["best", "index"], {"axis": 1}),
            ("Unsqueeze", "/rows", ["index", "last"], "rows", {}),
            ("Tile", "/tile", ["rows", "of_four"], "tiled", {}),
            ("MatMul", "/head/0/MatMul", ["images", "w0"], "a", {}),
            ("Add", "/head/0/Add", ["b0", "a"], "b", {}),
            ("Relu", "/head/Relu", ["b"], "c", {}),
            ("MatMul", "/head/1/MatMul", ["c", "w1"], "d", {}),
            ("Add", "/anchored", ["d", "anchors"], "e", {}),
            ("GatherElements", "/choice", ["e", "tiled"], "boxes", {"axis": 1}),
            *more,
        ]
        values = {
            "ws": rng.normal(size=(WIDE, 1)),
            "w0": rng.normal(size=(WIDE, WIDE)),
            "b0": rng.normal(size=WIDE),
            "w1": rng.normal(size=(WIDE, 4)),
            "anchors": rng.normal(size=(1, ROWS, 4)),
            "last": np.array([-1]),
            "k": np.array([CHOSEN]),
            "of_four": np.array([1, 1, 4]),
        }
        return onnx_model(nodes, values, inputs={"images": (1, ROWS, WIDE)}, outputs=[*outputs])

    return make


def answers(model: onnx.ModelProto) -> list[Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    images = np.random.default_rng(1).normal(size=(1, ROWS, WIDE)).astype(np.float32)
    return list(session.run(None, {"images": images}))


def test_a_head_computes_chosen_rows_alone(head: Callable[..., onnx.ModelProto]) -> None:
    """By hand: 12 rows of 5 x 5 and 5 x 4 products become 3."""
    model = head()
    moved = rows_chosen_first(model)
    (before,), (after,) = answers(model), answers(moved)
    np.testing.assert_allclose(after, before, rtol=1e-6)
    assert {n: c for n, c in macs(model).items() if "head" in n} == {
        "/head/0/MatMul": 300,
        "/head/1/MatMul": 240,
    }
    assert {n: c for n, c in macs(moved).items() if "head" in n} == {
        "/head/0/MatMul": 75,
        "/head/1/MatMul": 60,
    }
    made = {name for node in moved.graph.node for name in node.output}
    read = {name for node in moved.graph.node for name in node.input} | {"boxes", "best"}
    assert made <= read


def test_what_is_read_elsewhere_too_is_computed_as_it_was(
    head: Callable[..., onnx.ModelProto],
) -> None:
    """Somebody reads the boxes of all rows."""
    model = head(("Relu", "/all", ["e"], "all", {}), outputs=("boxes", "all"))
    moved = rows_chosen_first(model)
    assert macs(moved) == macs(model)


def test_a_choice_of_what_no_layer_made_stays(onnx_model: Build) -> None:
    model = onnx_model(
        [
            ("Relu", "/relu", ["images"], "a", {}),
            ("Tile", "/tile", ["rows", "repeats"], "tiled", {}),
            ("GatherElements", "/choice", ["a", "tiled"], "out", {"axis": 1}),
        ],
        {"rows": np.zeros((1, CHOSEN, 1), np.int64), "repeats": np.array([1, 1, WIDE])},
        inputs={"images": (1, ROWS, WIDE)},
        outputs=["out"],
    )
    assert rows_chosen_first(model) == model
