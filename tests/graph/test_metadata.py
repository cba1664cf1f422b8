"""What a file says about itself."""

import numpy as np
import onnx
import pytest

from edgedetr.graph.metadata import VERSIONS_KEY, int8_target, set_metadata
from edgedetr.graph.model_file import embedded_spec
from edgedetr.runtime.spec import ModelSpec


def test_spec_and_versions_are_stored_beside_what_others_wrote(tiny_onnx):
    path = tiny_onnx()
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"author": "somebody", VERSIONS_KEY: "old==1"})
    spec = ModelSpec((8, 16), ("Car", "Tram"))
    set_metadata(model, spec, ("numpy==2.0", "onnx==1.17"))
    assert embedded_spec(model, path) == spec
    found = {p.key: p.value for p in model.metadata_props}
    assert found["author"] == "somebody"
    assert found[VERSIONS_KEY] == "numpy==2.0 onnx==1.17"


@pytest.mark.parametrize(("kind", "target"), [(np.uint8, "a CPU"), (np.int8, "")])
def test_the_target_is_what_a_file_says_or_its_zero_points_tell(onnx_model, kind, target):
    model = onnx_model(
        [
            ("QuantizeLinear", "q", ["x", "s", "z"], "x8", {}),
            ("DequantizeLinear", "dq", ["x8", "s", "z"], "y", {}),
        ],
        {"s": np.float32(0.1), "z": kind(3)},
        inputs={"x": (1, 2)},
        outputs=("y",),
    )
    assert int8_target(model) == target
    set_metadata(model, ModelSpec((8, 16), ("Car",)), (), "openvino")
    assert int8_target(model) == "openvino"
