import hashlib

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgedetr.graph.checksum import (
    MOST_BYTES,
    MOST_EXTERNAL_BYTES,
    external_files,
    model_files,
    model_sha256,
    nodes_of,
    tensors_of,
)
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import sha256


@pytest.fixture
def external(tiny_onnx, tmp_path):
    """A model whose weights lie in ``weights.bin``."""
    model = onnx.load(tiny_onnx())
    path = tmp_path / "external" / "m.onnx"
    path.parent.mkdir()
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_a_model_of_one_file_is_its_file(tiny_onnx):
    path = tiny_onnx()
    assert external_files(path) == ()
    assert model_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_external_data_belongs_to_the_model(external):
    assert external_files(external) == ("weights.bin",)
    before = model_sha256(external)
    assert before not in (sha256(external), sha256(external.parent / "weights.bin"))
    weights = external.parent / "weights.bin"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert model_sha256(external) != before


def test_the_files_of_a_model(external, tiny_onnx):
    assert model_files(external) == [external, external.parent / "weights.bin"]
    assert model_files(tiny_onnx()) == [tiny_onnx()]


def test_external_data_that_is_gone(external):
    (external.parent / "weights.bin").unlink()
    with pytest.raises(ArtifactError, match=r"has weights in .*weights\.bin, which is missing"):
        model_sha256(external)


def test_giant_files_are_not_read(external, tmp_path):
    with (external.parent / "weights.bin").open("r+b") as file:
        file.truncate(MOST_EXTERNAL_BYTES + 1)
    with pytest.raises(ArtifactError, match=r"has 4294967297 bytes in other files, wanted at most"):
        model_files(external)
    giant = tmp_path / "giant.onnx"
    with giant.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    assert external_files(giant) == ()


@pytest.mark.parametrize("location", ["/etc/passwd", "../m.onnx", "a/../../m.onnx"])
def test_external_data_outside_of_the_folder(external, location):
    model = onnx.load(external, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    onnx.save(model, external)
    with pytest.raises(ArtifactError, match="outside of its folder"):
        external_files(external)


def test_what_is_no_onnx_model_is_its_file(tmp_path):
    for name in ("m.onnx", "m.safetensors", "m.engine"):
        path = tmp_path / name
        path.write_bytes(b"weights")
        assert model_sha256(path) == sha256(path)


def test_constants_inside_of_branches_count():
    inner = numpy_helper.from_array(np.zeros(1, np.float16), "inner")
    deep = numpy_helper.from_array(np.zeros(1, np.float16), "deep")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=deep)],
        "branch",
        [],
        [helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT16, [1])],
        [inner],
    )
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    outer = numpy_helper.from_array(np.zeros(1, np.float32), "outer")
    model = helper.make_model(helper.make_graph([node], "g", [], [], [outer]))
    assert [t.name for t in tensors_of(model)] == ["outer", "inner", "inner", "deep", "deep"]
    assert [n.op_type for n in nodes_of(model)] == ["If", "Constant", "Constant"]
