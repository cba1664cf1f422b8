"""What an ONNX file tells about itself, counted by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from edgedetr.bench.report.model_facts import count_weights, model_facts, stored_precision
from edgedetr.runtime.files import sha256

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Build = Callable[..., onnx.ModelProto]


@pytest.fixture
def quantized(onnx_model: Build) -> onnx.ModelProto:
    """A product with 4 x 5 weights in INT8, their scale, and a bias of 5 numbers."""
    return onnx_model(
        [
            ("DequantizeLinear", "", ["w_int8", "scale", "zero"], "w", {}),
            ("QuantizeLinear", "", ["images", "scale", "zero"], "x_int8", {}),
            ("DequantizeLinear", "", ["x_int8", "scale", "zero"], "x", {}),
            ("MatMul", "fc", ["x", "w"], "m", {}),
            ("Add", "", ["m", "bias"], "y", {}),
        ],
        {
            "w_int8": np.ones((4, 5), np.int8),
            "scale": np.array(0.5),
            "zero": np.array(0, np.int8),
            "bias": np.zeros(5),
        },
        inputs={"images": (2, 4)},
        outputs=["y"],
    )


def test_scales_and_zero_points_are_no_weights(quantized: onnx.ModelProto) -> None:
    assert count_weights(quantized) == 4 * 5 + 5


def test_a_model_with_quantized_numbers_is_int8(quantized: onnx.ModelProto) -> None:
    assert stored_precision(quantized) == "int8"


def test_the_precision_is_that_of_most_weights(onnx_model: Build) -> None:
    constants = {"half": np.ones((4, 4), np.float16), "single": np.ones(4)}
    nodes = [
        ("Add", "", ["images", "single"], "y", {}),
        ("Cast", "", ["half"], "z", {"to": onnx.TensorProto.FLOAT}),
    ]
    model = onnx_model(nodes, constants, inputs={"images": (1, 4)}, outputs=["y", "z"])
    assert stored_precision(model) == "fp16"


def test_facts_of_a_file(quantized: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(quantized, path)
    facts = model_facts(path)
    assert (facts.sha256, facts.precision) == (sha256(path), "int8")
    assert facts.params_m == pytest.approx(25e-6)
    assert facts.gflops == pytest.approx(2 * 2 * 4 * 5 / 1e9)
    assert facts.file_mib == path.stat().st_size / 2**20
