"""ONNX files are read whole or refused."""

import onnx
import pytest

from edgedetr.graph.checksum import MOST_BYTES, external_files
from edgedetr.graph.model_file import embedded_spec, load_onnx
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec


def test_a_missing_and_a_cut_file_are_refused(tiny_onnx, tmp_path):
    with pytest.raises(ArtifactError, match="is missing; wanted an ONNX model"):
        load_onnx(tmp_path / "no.onnx")
    path = tiny_onnx()
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ArtifactError, match="not a whole ONNX model"):
        load_onnx(path)


def test_a_giant_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "giant.onnx"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(
        ArtifactError, match="has 2147483649 bytes, wanted an ONNX model of at most"
    ):
        load_onnx(path)


def test_constants_with_too_few_bytes_are_refused(tiny_onnx):
    path = tiny_onnx()
    model = onnx.load(path)
    gain = next(t for t in model.graph.initializer if t.name == "gain")
    gain.raw_data = gain.raw_data[:-4]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match=r"not a whole ONNX model.*gain"):
        load_onnx(path)


def test_constants_are_no_inputs(tiny_onnx):
    path = tiny_onnx()
    model = onnx.load(path)
    model.ir_version = 3
    for tensor in model.graph.initializer:
        value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(value)
    onnx.save(model, path)
    found = load_onnx(path)
    assert [i.name for i in found.graph.input] == ["images"]
    assert found.ir_version == 4


def test_the_spec_lies_in_the_file(tiny_onnx):
    spec = ModelSpec((8, 16), ("Car", "Tram"), mean=(0.5, 0.25, 0.0))
    path = tiny_onnx(spec=spec)
    assert embedded_spec(load_onnx(path), path) == spec


def test_a_file_without_a_spec_is_refused(tiny_onnx):
    path = tiny_onnx(store_spec=False)
    with pytest.raises(ArtifactError, match=r"tiny\.onnx"):
        embedded_spec(load_onnx(path), path)


@pytest.mark.parametrize("name", ["model.json", "model.textproto", "model.onnxtxt", "model.onnx"])
def test_a_file_of_another_kind_is_refused_whatever_its_name(tmp_path, name):
    path = tmp_path / name
    path.write_text('{"images": [1, 2]}')
    with pytest.raises(ArtifactError, match="not a whole ONNX model"):
        load_onnx(path)
    assert external_files(path) == ()
