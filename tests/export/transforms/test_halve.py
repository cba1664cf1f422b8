"""Nodes become FP16 but for those that must not, and ranges are those of the given images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edgedetr.export.to_fp16 import frames_of
from edgedetr.export.transforms.halve import halve
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Build = Callable[..., onnx.ModelProto]
    Halve = Callable[..., Any]

SPEC = ModelSpec((4, 4), ("Car",))
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def test_everything_between_the_ends_is_fp16(between_heads: Build, halved: Halve) -> None:
    model = between_heads(("Relu", "act", ["x"], "f", {}))
    before = model.SerializeToString()
    half = halved(model)
    assert model.SerializeToString() == before
    assert half.types == {
        "images_fp16_Cast": HALF,
        "stem": HALF,
        "act": HALF,
        "class_head": HALF,
        "logits_Cast": FLOAT,
        "box_head": HALF,
        "deltas_fp32_Cast": FLOAT,
        "to_boxes": FLOAT,
    }
    assert {t.name: t.data_type for t in half.model.graph.initializer} == {
        "w_fp16": HALF,
        "two_fp16": HALF,
    }
    assert (half.share.nodes, half.share.float_nodes, half.share.casts) == (4, 5, 3)
    assert half.share.half_macs == half.share.macs == 2 * 3 * 3 * 16
    assert half.share.islands == {"boxes": 1}
    assert half.share.describe() == (
        "4 of 5 nodes and 100.0% of 0.000 GMACs in FP16, 3 casts; FP32: 1 node (boxes 1)"
    )


def test_ranges_are_measured_on_the_images_that_are_given(
    between_heads: Build, tmp_path: Path
) -> None:
    """Black images leave the features at 0, so that nothing seems to overflow."""
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((4, 4, 3), np.uint8))
    nodes: tuple[Any, ...] = (
        ("Mul", "scaled", ["x", "c"], "y", {}),
        ("Tanh", "f", ["y"], "f", {}),
    )
    model = between_heads(*nodes, c=[6e4])
    assert "range" not in halve(model, SPEC, frames_of(tmp_path))[1].islands
    assert halve(model, SPEC)[1].islands["range"] == 2
    broken = between_heads(*nodes, c=[np.nan])
    with pytest.raises(DataError, match="the tensor y holds NaN already in FP32"):
        halve(broken, SPEC)
