import pytest

from edgedetr.graph.checksum import external_files
from edgedetr.graph.model_file import load_onnx
from edgedetr.runtime.errors import ArtifactError


@pytest.mark.parametrize("name", ["model.json", "model.textproto", "model.onnxtxt", "model.onnx"])
def test_a_file_of_another_kind_is_refused_whatever_its_name(tmp_path, name):
    path = tmp_path / name
    path.write_text('{"images": [1, 2]}')
    with pytest.raises(ArtifactError, match="not a whole ONNX model"):
        load_onnx(path)
    assert external_files(path) == ()
