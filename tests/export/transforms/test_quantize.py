"""Where Q and DQ nodes go, and that the result computes what they say."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgedetr.calib.placement import calibration_tensors
from edgedetr.calib.stats import CalibrationStats, TensorRange
from edgedetr.export.transforms.quantize import quantize, quantized_share
from edgedetr.graph.macs import count_nodes
from edgedetr.runtime.errors import ArtifactError, UsageError
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


def stats_of(amax: Mapping[str, float], model_sha256: str = "") -> CalibrationStats:
    ranges = tuple(TensorRange(name, value, value) for name, value in amax.items())
    return CalibrationStats("net.onnx", model_sha256, SPEC, "max", 100.0, 1, "", ranges)


def stats_for(model: onnx.ModelProto, **amax: float) -> CalibrationStats:
    return stats_of({**dict.fromkeys(calibration_tensors(model), 1.27), **amax})


def session(model: onnx.ModelProto, *, exact: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def run(model: onnx.ModelProto, images: NDArray[Any], *, exact: bool = True) -> NDArray[np.float32]:
    out: NDArray[np.float32] = session(model, exact=exact).run(None, {"images": images})[0]
    return out


def inputs_of(model: onnx.ModelProto, name: str) -> list[str]:
    return next(list(n.input) for n in model.graph.node if n.name == name)


def constant(model: onnx.ModelProto, name: str) -> NDArray[Any]:
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


def scale_of(model: onnx.ModelProto, tensor: str) -> float:
    """The scale of the only Q of a tensor."""
    (node,) = (
        n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == tensor
    )
    assert constant(model, node.input[2]) == 0
    assert constant(model, node.input[2]).dtype == np.int8
    return float(constant(model, node.input[1]))


def quantized_tensors(model: onnx.ModelProto) -> set[str]:
    return {n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}


def test_a_convolution_computes_what_int8_would(onnx_model: Build) -> None:
    """With amax 12.7 a step is 0.1; the weights' steps are 2 / 127 and 0.5 / 127; -13 clips."""
    weights = np.array([[2.0, -1.003], [0.5, 0.123]]).reshape(2, 2, 1, 1)
    bias = np.array([0.03, -7.0])
    model = onnx_model(
        [STEM, ("Conv", "next", ["x", "w2", "b"], "y", {})],
        {"w": W, "w2": weights, "b": bias},
        inputs={"images": (1, 2, 1, 2)},
        outputs=["y"],
    )
    quantized = quantize(model, stats_for(model, x=12.7))
    images = np.array([[1.04, -13.0], [0.26, 3.0]], np.float32).reshape(1, 2, 1, 2)
    activation = np.array([[1.0, -12.8], [0.3, 3.0]])  # -128 is INT8's least
    rounded = np.array([[127 * 2 / 127, -64 * 2 / 127], [127 * 0.5 / 127, 31 * 0.5 / 127]])
    expected = (rounded @ activation + bias[:, None]).reshape(1, 2, 1, 2)
    np.testing.assert_allclose(run(quantized, images), expected, atol=1e-5)

    assert constant(quantized, "w2_quantized").tolist() == [[[[127]], [[-64]]], [[[127]], [[31]]]]
    assert constant(quantized, "w2_quantized").dtype == np.int8
    np.testing.assert_allclose(constant(quantized, "w2_scale"), [2 / 127, 0.5 / 127])
    assert inputs_of(quantized, "next") == ["x_dequantized", "w2_dequantized", "b"]
    assert inputs_of(quantized, "stem") == ["images", "w"]
    assert "w2" not in {t.name for t in quantized.graph.initializer}
    assert quantized_share(quantized).describe() == (
        "1 node in INT8 of 2 convolutions; 50.0% of 0.000 GMACs"
    )


def test_depthwise_weights_have_a_scale_for_each_channel(onnx_model: Build) -> None:
    weights = np.array([[[[1.27]]], [[[0.0]]]])
    model = onnx_model(
        [STEM, ("Conv", "depthwise", ["x", "dw"], "y", {"group": 2})],
        {"w": W, "dw": weights},
        inputs=IMAGES,
        outputs=["y"],
    )
    quantized = quantize(model, stats_for(model, x=1.27), include="depthwise")
    np.testing.assert_allclose(constant(quantized, "dw_scale"), [0.01, 0.01], rtol=1e-6)
    images = np.full((1, 2, 4, 4), 0.5, np.float32)
    expected = np.broadcast_to(np.array([0.635, 0]).reshape(1, 2, 1, 1), (1, 2, 4, 4))
    np.testing.assert_allclose(run(quantized, images), expected, atol=1e-6)


def test_one_pair_serves_every_reader_and_float_readers_see_the_tensor(onnx_model: Build) -> None:
    model = onnx_model(
        [
            STEM,
            ("Conv", "one", ["x", "w1"], "a", {}),
            ("Conv", "two", ["x", "w2"], "b", {}),
            ("Mul", "gate", ["x", "a"], "c", {}),
        ],
        {"w": W, "w1": W, "w2": W},
        inputs=IMAGES,
        outputs=["b", "c"],
    )
    quantized = quantize(model, stats_for(model))
    assert count_nodes(quantized)["QuantizeLinear"] == 1
    assert inputs_of(quantized, "one")[0] == inputs_of(quantized, "two")[0] == "x_dequantized"
    assert inputs_of(quantized, "gate") == ["x", "a"]


def test_shared_weights_share_their_node_and_stay_float_for_others(onnx_model: Build) -> None:
    model = onnx_model(
        [
            ("Conv", "stem", ["images", "w"], "x", {}),
            ("Conv", "one", ["x", "w"], "a", {}),
            ("Conv", "two", ["a", "w"], "y", {}),
        ],
        {"w": W},
        inputs=IMAGES,
        outputs=["y"],
    )
    quantized = quantize(model, stats_for(model))
    assert inputs_of(quantized, "one")[1] == inputs_of(quantized, "two")[1] == "w_dequantized"
    assert inputs_of(quantized, "stem")[1] == "w"
    assert count_nodes(quantized)["DequantizeLinear"] == 3
    whole = quantize(model, stats_for(model), include="stem")
    assert "w" not in {t.name for t in whole.graph.initializer}


def test_a_concat_and_what_it_joins_share_the_widest_scale(onnx_model: Build) -> None:
    model = onnx_model(
        [
            STEM,
            ("Conv", "left", ["x", "w1"], "a", {}),
            ("Concat", "join", ["a", "x"], "joined", {"axis": 1}),
            ("Conv", "after", ["joined", "w2"], "y", {}),
        ],
        {"w": W, "w1": W, "w2": np.ones((2, 4, 1, 1))},
        inputs=IMAGES,
        outputs=["y"],
    )
    quantized = quantize(model, stats_for(model, x=1.27, a=12.7, joined=2.54))
    assert {scale_of(quantized, t) for t in ("x", "a", "joined")} == {np.float32(0.1)}
    assert inputs_of(quantized, "join") == ["a_dequantized", "x_dequantized"]
    assert inputs_of(quantized, "left")[0] == "x_dequantized"
    alone = quantize(model, stats_for(model, x=1.27, a=12.7, joined=2.54), exclude="after")
    assert quantized_tensors(alone) == {"x"}
    assert scale_of(alone, "x") == pytest.approx(0.01)


def test_two_concats_with_a_common_part_share_one_scale(onnx_model: Build) -> None:
    nodes = [STEM, ("Relu", "", ["x"], "a", {}), ("Relu", "", ["x"], "b", {})]
    for name, parts in (("one", ["x", "a"]), ("two", ["x", "b"])):
        nodes.append(("Concat", "", parts, f"{name}_in", {"axis": 1}))
        nodes.append(("Conv", name, [f"{name}_in", "w4"], f"{name}_out", {}))
    model = onnx_model(
        nodes,
        {"w": W, "w4": np.ones((2, 4, 1, 1))},
        inputs=IMAGES,
        outputs=["one_out", "two_out"],
    )
    quantized = quantize(model, stats_for(model, b=12.7))
    for name in ("x", "a", "b", "one_in", "two_in"):
        assert scale_of(quantized, name) == pytest.approx(0.1)


def test_only_the_skip_of_an_addition_is_quantized(onnx_model: Build) -> None:
    model = onnx_model(
        [
            STEM,
            ("Relu", "", ["x"], "skip", {}),
            ("Conv", "block", ["skip", "w1"], "main", {}),
            ("Add", "sum", ["main", "skip"], "added", {}),
            ("Relu", "", ["added"], "y", {}),
        ],
        {"w": W, "w1": W},
        inputs=IMAGES,
        outputs=["y"],
    )
    quantized = quantize(model, stats_for(model))
    assert inputs_of(quantized, "sum") == ["main", "skip_dequantized"]
    assert quantized_tensors(quantized) == {"skip"}


def test_the_decoder_and_the_queries_stay_as_they_are(onnx_model: Build) -> None:
    model = onnx_model(
        [
            STEM,
            ("Conv", "encoder", ["x", "w1"], "m", {}),
            ("Reshape", "", ["m", "flat"], "rows", {}),
            ("TopK", "choose", ["rows", "k"], ("best", "index"), {}),
            ("Reshape", "", ["best", "square"], "q", {}),
            ("Conv", "after the choice", ["q", "w1"], "y", {}),
        ],
        {
            "w": W,
            "w1": W,
            "flat": np.array([1, 32]),
            "k": np.array([32]),
            "square": np.array([1, 2, 4, 4]),
        },
        inputs=IMAGES,
        outputs=["y"],
    )
    quantized = quantize(model, stats_for(model))
    assert inputs_of(quantized, "after the choice") == ["q", "w1"]
    assert inputs_of(quantized, "choose") == ["rows", "k"]
    assert quantized_tensors(quantized) == {"x"}
    with pytest.raises(UsageError, match=r"--include 'after' finds none of the 2 nodes"):
        quantize(model, stats_for(model), include="after")


def test_linear_layers_and_the_first_convolution_are_quantized_when_asked(
    onnx_model: Build,
) -> None:
    wide = np.array([[1.27, 0.5], [0.0, 0.635]])
    model = onnx_model(
        [
            STEM,
            ("Conv", "next", ["x", "w"], "c", {}),
            ("Reshape", "", ["c", "rows"], "r", {}),
            ("MatMul", "fc1", ["r", "m"], "a", {}),
            ("Gemm", "Gemm_4", ["a", "g", "fc2.bias"], "b", {"transB": 1}),
            ("Gemm", "fc3", ["b", "g3"], "y", {}),
        ],
        {"w": W, "rows": np.array([16, 2]), "m": wide, "g": wide, "g3": wide, "fc2.bias": [0.0, 1]},
        inputs=IMAGES,
        outputs=["y"],
    )
    stats = stats_of(dict.fromkeys(calibration_tensors(model), 2.54))
    assert quantized_tensors(quantize(model, stats)) == {"x"}
    quantized = quantize(model, stats, include="fc|stem", exclude="next")
    assert quantized_tensors(quantized) == {"images", "r", "a", "b"}
    by_column, by_row = [0.01, 0.635 / 127], [0.01, 0.635 / 127]
    np.testing.assert_allclose(constant(quantized, "m_scale"), by_column, rtol=1e-6)
    np.testing.assert_allclose(constant(quantized, "g_scale"), by_row, rtol=1e-6)
    assert constant(quantized, "m_quantized").tolist() == [[127, 100], [0, 127]]
    assert constant(quantized, "g_quantized").tolist() == [[127, 50], [0, 127]]
    assert constant(quantized, "g3_quantized").tolist() == [[127, 100], [0, 127]]
    images = np.random.default_rng(0).uniform(-1, 1, (1, 2, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(run(quantized, images), run(model, images), atol=0.06)


def test_a_model_is_quantized_once(onnx_model: Build) -> None:
    model = onnx_model(
        [STEM, ("Conv", "next", ["x", "w"], "y", {})], {"w": W}, inputs=IMAGES, outputs=["y"]
    )
    before = model.SerializeToString()
    quantized = quantize(model, stats_for(model))
    assert model.SerializeToString() == before
    with pytest.raises(ArtifactError, match="quantized already"):
        quantize(quantized, stats_for(model))


def test_names_that_are_taken_are_not_used_again(onnx_model: Build) -> None:
    model = onnx_model(
        [STEM, ("Relu", "", ["x"], "x_scale", {}), ("Conv", "n", ["x_scale", "w"], "y", {})],
        {"w": W},
        inputs=IMAGES,
        outputs=["y"],
    )
    taken = onnx_model(
        [STEM, ("Relu", "", ["x"], "x_dequantized", {}), ("Conv", "n", ["x", "w"], "y", {})],
        {"w": W},
        inputs=IMAGES,
        outputs=["x_dequantized", "y"],
    )
    onnx.checker.check_model(quantize(model, stats_for(model)), full_check=True)
    quantized = quantize(taken, stats_for(taken))
    assert inputs_of(quantized, "n")[0] == "x_dequantized_2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": "("}, "is no regular expression"),
        ({"include": "nothing"}, "--include 'nothing' finds none of the 2 nodes"),
        ({"exclude": "stem"}, "--exclude 'stem' finds none of the 1 nodes.* called 'next'"),
    ],
)
def test_an_expression_that_finds_nothing_is_an_error(
    onnx_model: Build, options: dict[str, str], message: str
) -> None:
    model = onnx_model(
        [STEM, ("Conv", "next", ["x", "w"], "y", {})], {"w": W}, inputs=IMAGES, outputs=["y"]
    )
    with pytest.raises(UsageError, match=message):
        quantize(model, stats_for(model), options.get("include", ""), options.get("exclude", ""))


def test_models_that_cannot_be_quantized(onnx_model: Build) -> None:
    two = [STEM, ("Conv", "next", ["x", "w"], "y", {})]
    model = onnx_model(two, {"w": W}, inputs=IMAGES, outputs=["y"])
    with pytest.raises(ArtifactError, match="no range for x"):
        quantize(model, stats_of({}))
    with pytest.raises(ArtifactError, match="no node to quantize"):
        quantize(model, stats_for(model), exclude="next")
    old = onnx_model(two, {"w": W}, inputs=IMAGES, outputs=["y"], opset=12)
    with pytest.raises(ArtifactError, match="opset 12; INT8 for each channel needs 13"):
        quantize(old, stats_for(old))


@pytest.mark.parametrize(("weight", "bias", "amax"), [(1e-5, 4.0, 5.08), (0.0, 0.006, 0.254)])
def test_int8_kernels_keep_the_bias_of_small_weights(
    onnx_model: Build, weight: float, bias: float, amax: float
) -> None:
    """A bias of 4 needs 33 bits in steps of 0.01 * 1e-5 / 127; one of 0.006 is 0.01 in 0.01s."""
    model = onnx_model(
        [
            STEM,
            ("Conv", "first", ["x", "w2", "b"], "m", {}),
            ("Conv", "second", ["m", "w"], "y", {}),
        ],
        {"w": W, "w2": np.diag([weight, 0.1]).reshape(2, 2, 1, 1), "b": np.array([bias, 0.0])},
        inputs=IMAGES,
        outputs=["y"],
    )
    quantized = quantize(model, stats_for(model, x=1.27, m=amax))
    images = np.ones(IMAGES["images"], np.float32)
    for exact in (True, False):
        found = run(quantized, images, exact=exact)[0, :, 0, 0]
        np.testing.assert_allclose(found, [bias, 0.1], atol=0.6 * amax / 127)


def test_a_calibration_that_corrects_nothing_for_a_target_is_refused(onnx_model: Build) -> None:
    """Those of before know one correction for all CPUs, but OpenVINO rounds otherwise now."""
    model = onnx_model(
        [STEM, ("Conv", "next", ["x", "w"], "y", {})],
        {"w": W},
        inputs=IMAGES,
        outputs=["y"],
    )
    ranges = [TensorRange(r.tensor, 1.27, 1.27, -1.0, 1.0) for r in stats_for(model).ranges]
    stats = replace(stats_for(model), ranges=tuple(ranges), shifts={"uint8": {"y": [0.5, 0.0]}})
    quantized = quantize(model, stats, target="onnxruntime")
    assert "next_bias" in {t.name for t in quantized.graph.initializer}
    with pytest.raises(ArtifactError, match="corrects nothing for openvino; run: edgedetr calib"):
        quantize(model, stats, target="openvino")
