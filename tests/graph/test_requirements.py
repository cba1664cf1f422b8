"""What must hold of a file before it is rewritten."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edgedetr.graph.requirements import (
    check_float,
    check_operators,
    check_static,
    opset_of,
    raise_opset,
    spec_of,
)
from edgedetr.graph.sampling_plugin import DOMAIN, PLUGIN, define_plugin
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

PATH = Path("net.onnx")
SPEC = ModelSpec((4, 8), ("Car",))


@pytest.fixture
def scaled(onnx_model):
    """A product with a constant, of any type and input."""

    def build(dtype=np.float32, shape=(1, 3, 4, 8)):
        kind = {np.float32: TensorProto.FLOAT, np.float16: TensorProto.FLOAT16}[dtype]
        return onnx_model(
            [
                ("Cast", "down", ["images"], "x", {"to": kind}),
                ("Mul", "scale", ["x", "two"], "m", {}),
                ("Cast", "up", ["m"], "y", {"to": TensorProto.FLOAT}),
            ],
            {"two": np.array([2], dtype)},
            inputs={"images": shape},
            outputs=["y"],
        )

    return build


def test_only_fp32_models_are_rewritten(scaled):
    check_float(scaled(), PATH)
    with pytest.raises(ArtifactError, match="is in FP16 already; start from the FP32 model"):
        check_float(scaled(np.float16), PATH)


def test_sizes_other_than_the_batch_are_fixed(scaled):
    check_static(scaled(shape=("batch", 3, 4, 8)), SPEC, PATH)
    with pytest.raises(ArtifactError, match=r"free sizes \(1, 3, height, 8\).*\(1, 3, 4, 8\)"):
        check_static(scaled(shape=(1, 3, "height", 8)), SPEC, PATH)


def test_operators_of_others_are_refused_once_each(scaled):
    model = scaled()
    check_operators(model, PATH)
    for node in model.graph.node[:2]:
        node.op_type, node.domain = "Swizzle", "somewhere"
    with pytest.raises(ArtifactError, match=r"define: somewhere\.Swizzle \(at down\); .*opset 17"):
        check_operators(model, PATH)


def test_our_plugin_needs_its_function(scaled):
    model = scaled()
    node = model.graph.node[0]
    node.op_type, node.domain = PLUGIN, DOMAIN
    with pytest.raises(ArtifactError, match=rf"define: {DOMAIN}\.{PLUGIN} \(at down\)"):
        check_operators(model, PATH)
    define_plugin(model)
    check_operators(model, PATH)


def test_the_opset_is_raised_and_never_lowered(scaled):
    model = scaled()
    assert opset_of(model) == 17
    assert opset_of(raise_opset(model, 19)) == 19
    assert raise_opset(model, 13) is model


def test_the_spec_inside_must_hold(tiny_onnx):
    path = tiny_onnx()
    assert spec_of(onnx.load(path), path, None) == ModelSpec((8, 16), ("Car", "Pedestrian"))
    other = ModelSpec((8, 16), ("Car", "Pedestrian", "Tram"))
    with pytest.raises(ArtifactError, match=r"tiny\.onnx"):
        spec_of(onnx.load(path), path, other)
