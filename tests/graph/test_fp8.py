"""E4M3 has 3 bits of mantissa, from 2**-9 to 448, on numbers worked out by hand."""

import numpy as np
import onnx
import pytest

from edgedetr.graph.exact import coarsest_precision, exact_session
from edgedetr.graph.fp8 import FP8, fp8_scale, fp8_steps, fp8_weights, to_fp8


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (1.05, 1.0),
        (1.0625, 1.0),  # a tie: 1.0 has the even mantissa
        (1.1875, 1.25),  # likewise
        (100.0, 96.0),  # 96 and 104 are neighbours
        (-500.0, -448.0),
        (2.0**-10, 0.0),  # half of the smallest number
        (0.0015, 2.0**-9),
    ],
)
def test_values_go_to_the_nearest_number(value, rounded):
    assert float(to_fp8(np.array([value], np.float32))[0]) == rounded


def test_448_stands_for_amax_but_no_scale_is_subnormal_in_fp16():
    assert fp8_scale(896.0) == 2.0
    assert fp8_scale(0.0) == fp8_scale(448 * 2.0**-15) == 2.0**-14


def test_each_output_channel_has_its_scale():
    weights = np.array([[4.48, 1.0], [0.0448, 0.01]], np.float32)
    rounded, scales = fp8_weights(weights, 0)
    np.testing.assert_allclose(scales, [0.01, 1e-4])
    # 1.0 is 100 steps of 0.01, a tie between 96 and 104; so is 0.01 of 1e-4
    np.testing.assert_array_equal(rounded.astype(np.float32), [[448, 96], [448, 96]])
    assert fp8_weights(weights, 1)[1] == pytest.approx([0.01, 1 / 448])


def test_the_distance_of_neighbours_grows_with_the_value():
    values = np.array([0.0, 2.0**-8, 1.0, 1.9, 2.0, -300.0, 600.0])
    steps = [2.0**-9, 2.0**-9, 0.125, 0.125, 0.25, 32.0, 32.0]
    np.testing.assert_array_equal(fp8_steps(values), steps)


def test_onnx_runtime_rounds_to_the_same_numbers(onnx_model):
    """Beyond the largest number it saturates, as TensorRT does."""
    model = onnx_model(
        [
            ("QuantizeLinear", "q", ["x", "s", "z"], "q8", {}),
            ("DequantizeLinear", "dq", ["q8", "s", "z"], "y", {}),
        ],
        {"s": np.float32(0.5), "z": np.zeros((), FP8)},
        inputs={"x": (1, 1001)},
        outputs=["y"],
        opset=19,
    )
    onnx.checker.check_model(model)
    assert coarsest_precision(model) == "fp8"
    x = np.linspace(-300, 300, 1001, dtype=np.float32)[None]
    (y,) = exact_session(model, "m").run(None, {"x": x})
    np.testing.assert_array_equal(y, to_fp8(x * 2).astype(np.float32) / 2)
