"""One line a model."""

from edgedetr.runtime.device_check.model_check import describe


def test_one_line_a_model(model_check):
    assert describe(model_check("m", precision="")) == (
        "m: passed; p50 3.00, paced p99 5.00, p99.9 6.00 ms, 1 of 2 frames late; layers: 3 INT8, "
        "1 FP16; products: 2 INT8; 1 reformat, 0 quantizers left over; CUDA graph yes, frame "
        "kernel no"
    )
