"""The share of INT8 activations that an image clips, against a count by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.export.transforms.clipping import clipping_graph
from edgedetr.graph.fp8 import FP8
from edgedetr.graph.metadata import set_metadata
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.health.clipping import ClippingProbe
from edgedetr.runtime.spec import ModelSpec

SPEC = ModelSpec((2, 4), ("Car",))


def quantized_model(step, zero, opset=17):
    """Quantize the images, double them, quantize that, and answer."""
    constants = {"step": np.float32(step), "zero": zero, "two": np.float32(2)}
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "step", "zero"], ["a"]),
        helper.make_node("DequantizeLinear", ["a", "step", "zero"], ["b"]),
        helper.make_node("Mul", ["b", "two"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "step", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["d", "step", "zero"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 2, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3, 2, 4])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    set_metadata(model, SPEC, ())
    return model


def test_share_is_the_mean_over_the_tensors(tmp_path):
    path = tmp_path / "tiny.clipping.onnx"
    onnx.save(clipping_graph(quantized_model(0.6 / 127, np.int8(0))), path)
    probe = ClippingProbe(path)
    image = np.zeros((2, 4, 3), np.uint8)
    assert probe(image) == 0
    image[0, 0] = 255  # 1.0: clipped in both; the rest is 0
    assert probe(image) == pytest.approx(1 / 8)
    image[0, 1] = 102  # 0.4: 0.8 once doubled, clipped there alone
    assert probe(image) == pytest.approx((1 / 8 + 2 / 8) / 2)


def test_fp8_clips_beyond_464(tmp_path):
    """448 is the largest number, and 464 steps still round to it; 1.0 is 465, 0.4 is 186."""
    path = tmp_path / "tiny.clipping.onnx"
    onnx.save(clipping_graph(quantized_model(1 / 465, np.zeros((), FP8), 19)), path)
    probe = ClippingProbe(path)
    image = np.zeros((2, 4, 3), np.uint8)
    image[0, 0] = 102
    assert probe(image) == 0
    image[0, 0] = 255
    assert probe(image) == pytest.approx(1 / 8)


def test_float_models_and_other_files_are_refused(tiny_onnx, tmp_path):
    with pytest.raises(ArtifactError, match="quantizes no activation"):
        clipping_graph(onnx.load(tiny_onnx()))
    with pytest.raises(ArtifactError, match="is not a clipping graph"):
        ClippingProbe(tiny_onnx())
    with pytest.raises(ArtifactError, match="is missing"):
        ClippingProbe(tmp_path / "none.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ArtifactError, match="cannot load"):
        ClippingProbe(tmp_path / "broken.onnx")
