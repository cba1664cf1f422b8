"""INT8 numbers, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from edgedetr.graph.int8 import (
    channel_axis,
    dequantized,
    least_scales,
    quantized_weights,
    scale_from_amax,
)


def test_scale_is_a_127th() -> None:
    assert scale_from_amax(12.7) == pytest.approx(0.1)
    assert scale_from_amax(0.0) == 1.0


def test_a_step_is_one_in_fp16_as_well() -> None:
    """TensorRT refuses a scale of 0."""
    assert scale_from_amax(127 * 2.0**-25) == 1.0
    assert np.float16(scale_from_amax(127 * 2.0**-23)) == 2.0**-23


@pytest.mark.parametrize(
    ("operator", "attributes", "rank", "axis"),
    [
        ("Conv", {}, 4, 0),
        ("ConvTranspose", {}, 4, 1),
        ("MatMul", {}, 2, 1),
        ("MatMul", {}, 3, 2),
        ("Gemm", {}, 2, 1),
        ("Gemm", {"transB": 1}, 2, 0),
    ],
)
def test_output_channels_lie_where_the_operator_has_them(
    operator: str, attributes: dict[str, int], rank: int, axis: int
) -> None:
    node = helper.make_node(operator, ["x", "w"], ["y"])
    node.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
    assert channel_axis(node, rank) == axis


@pytest.mark.parametrize("axis", [0, 1])
def test_each_channel_has_a_scale_of_its_own(axis: int) -> None:
    channels = np.array([[1.27, -0.634], [-254.0, 3.0], [0.0, 0.0]], np.float32)
    weights = channels if axis == 0 else np.ascontiguousarray(channels.T)
    rounded, scales = quantized_weights(weights, axis)
    found = rounded if axis == 0 else rounded.T
    assert rounded.dtype == np.int8
    assert found.tolist() == [[127, -63], [-127, 2], [0, 0]]
    np.testing.assert_allclose(scales, [0.01, 2, 0.01], rtol=1e-6)
    back = dequantized(rounded, scales, axis)
    assert (np.abs(back - weights) <= 0.5 * np.expand_dims(scales, 1 - axis)).all()


def test_weights_of_nothing_but_zeros_have_the_scale_1() -> None:
    rounded, scales = quantized_weights(np.zeros((2, 3), np.float32), 0)
    assert scales.tolist() == [1, 1]
    assert not rounded.any()


def test_a_bias_fits_in_32_bits() -> None:
    """4 / (0.01 * 2^30) is 3.7e-7; the second channel's own scale of 0.01 is larger."""
    least = least_scales(np.array([-4.0, 4.0], np.float32), 0.01)
    np.testing.assert_allclose(least, 4 / 0.01 / 2**30, rtol=1e-6)
    weights = np.array([[1e-5, -5e-6], [1.27, 0.1]], np.float32)
    rounded, scales = quantized_weights(weights, 0, least)
    np.testing.assert_allclose(scales, [4 / 0.01 / 2**30, 0.01], rtol=1e-6)
    assert rounded.tolist() == [[27, -13], [127, 10]]


def test_learnt_scales_round_and_clip() -> None:
    """0.9 is 2 steps of 0.5 (1.8), and -80 is clipped at 127 halves."""
    scales = np.array([0.5], np.float32)
    rounded, found = quantized_weights(np.array([[0.9, -80.0]], np.float32), 0, scales=scales)
    assert found.tolist() == [0.5]
    assert rounded.tolist() == [[2, -127]]
