"""Which convolutions are FP8: those for which TensorRT has a kernel."""

import numpy as np
import pytest

from edgedetr.calib.fp8_placement import default_fp8_points
from edgedetr.calib.placement import default_points, points
from edgedetr.graph.wiring import Wiring


@pytest.mark.parametrize(
    ("shape", "group", "has_kernel"),
    [
        ((32, 32, 3, 3), 1, True),
        ((32, 32, 5, 5), 1, True),
        ((32, 32, 7, 7), 1, False),  # 49 taps
        ((24, 32, 1, 1), 1, False),  # 24 outputs
        ((16, 32, 1, 1), 1, False),  # as few are slower than in FP16
        ((32, 16, 3, 3), 2, False),  # groups
    ],
)
def test_a_kernel_needs_channels_and_no_groups(onnx_model, shape, group, has_kernel):
    model = onnx_model(
        [
            ("Conv", "stem", ["images", "v"], "x", {}),
            ("Conv", "second", ["x", "w"], "y", {"group": group}),
        ],
        {"v": np.ones((32, 3, 1, 1)), "w": np.ones(shape)},
        inputs={"images": (1, 3, 8, 8)},
        outputs=["y"],
    )
    wiring = Wiring(model.graph)
    eligible = points(wiring)
    assert [p.weight for p in default_points(eligible)] == ["w"]
    assert [p.weight for p in default_fp8_points(eligible, wiring)] == ["w"] * has_kernel
