"""What a file says about itself."""

import onnx

from edgedetr.graph.metadata import VERSIONS_KEY, set_metadata
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
