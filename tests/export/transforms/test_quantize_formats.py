"""FP8 graphs, and scales that training chose, on numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from edgedetr.calib.placement import calibration_tensors
from edgedetr.calib.stats import CalibrationStats, TensorRange
from edgedetr.export.transforms.quantize import quantize, quantized_share
from edgedetr.graph.exact import exact_session
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Build = Callable[..., onnx.ModelProto]

pytestmark = pytest.mark.usefixtures("few_channels")

SPEC = ModelSpec((4, 4), ("Car",), logits_name="y", boxes_name="y")
IMAGES = {"images": (1, 2, 4, 4)}
STEM: tuple[Any, ...] = ("Conv", "stem", ["images", "w"], "x", {})
W = np.array([[1.0, 0.0], [0.0, 1.0]]).reshape(2, 2, 1, 1)


def stats_of(amax: Mapping[str, float]) -> CalibrationStats:
    ranges = tuple(TensorRange(name, value, value) for name, value in amax.items())
    return CalibrationStats("net.onnx", "", SPEC, "max", 100.0, 1, "", ranges)


def stats_for(model: onnx.ModelProto) -> CalibrationStats:
    return stats_of(dict.fromkeys(calibration_tensors(model), 1.27))


def run(model: onnx.ModelProto, images: NDArray[Any]) -> NDArray[np.float32]:
    out: NDArray[np.float32] = exact_session(model, "m").run(None, {"images": images})[0]
    return out


def test_fp8_computes_what_it_says(onnx_model: Build) -> None:
    """Of 32 equal channels: 1.05 * 4.48 is 1.05 * 448 steps of 0.01, which round to 480, clipped.

    So the input is 4.48, and the weight 1.05 is 448 steps of 1.05 / 448: itself. The bias takes
    back FP8's shift, 0.5, and not INT8's.
    """
    eye = np.eye(32).reshape(32, 32, 1, 1)
    model = onnx_model(
        [
            ("Conv", "stem", ["images", "eye"], "x", {}),
            ("Conv", "body", ["x", "w"], "y", {}),
        ],
        {"eye": eye, "w": 1.05 * eye},
        inputs={"images": (1, 32, 2, 2)},
        outputs=["y"],
    )
    stats = stats_of({"x": 4.48})
    found = quantize(
        model,
        replace(stats, shifts={"int8": {"y": [9.0] * 32}, "fp8": {"y": [0.5] * 32}}),
        precision="fp8",
    )
    onnx.checker.check_model(found, full_check=True)
    share = quantized_share(found)
    assert (share.nodes, share.precision) == (1, "fp8")
    assert share.describe().startswith("1 node in FP8 of 2 convolutions; 50.0% of")
    images = np.full((1, 32, 2, 2), 1.05 * 4.48, np.float32)
    np.testing.assert_allclose(run(found, images), 0.5 + 1.05 * 4.48, rtol=1e-6)
    images[:] = 1.0  # 100 steps of 0.01, which round to 104 or 96: a tie at 100 goes to 96
    np.testing.assert_allclose(run(found, images), 0.5 + 0.96 * 1.05, rtol=1e-6)


def test_fp8_without_a_kernel_for_any_layer_is_refused(onnx_model: Build) -> None:
    model = onnx_model(
        [STEM, ("Conv", "body", ["x", "w"], "y", {})], {"w": W}, inputs=IMAGES, outputs=["y"]
    )
    with pytest.raises(ArtifactError, match=r"no node to quantize .* few channels need --include"):
        quantize(model, stats_for(model), precision="fp8")
    quantize(model, stats_for(model), include="body", precision="fp8")


def test_learnt_scales_of_weights_are_kept(onnx_model: Build) -> None:
    """Of 1.0 and 0.4 in steps of 0.3 are left 0.9 and 0.3."""
    weights = np.diag([1.0, 0.4]).reshape(2, 2, 1, 1)
    model = onnx_model(
        [STEM, ("Conv", "body", ["x", "v"], "y", {})],
        {"w": W, "v": weights},
        inputs=IMAGES,
        outputs=["y"],
    )
    stats = replace(stats_for(model), weights={"body": [0.3, 0.3]})
    images = np.full((1, 2, 4, 4), 1.0, np.float32)
    found = run(quantize(model, stats), images)
    np.testing.assert_allclose(found[0, :, 0, 0], [0.9, 0.3], rtol=1e-6)
