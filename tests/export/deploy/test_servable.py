import onnx
import pytest

from edgedetr.export.deploy.deepstream import write_pipeline
from edgedetr.export.deploy.triton import write_repository
from edgedetr.export.package.write import Contents, package
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.package.reader import read_package

ENGINE = "models/m.engine"


def test_an_engine_that_no_server_runs(packaged, tmp_path):
    package = packaged(engine="tensorrt_rtx==1.1.0")
    with pytest.raises(ArtifactError, match=r"built with tensorrt_rtx==1\.1\.0, which no server"):
        write_repository(package, tmp_path / "made", ENGINE)
    assert not (tmp_path / "made").exists()


@pytest.fixture
def with_data(tiny_onnx, tmp_path, monkeypatch):
    """Packs a model whose weights lie in a file of that name."""
    monkeypatch.chdir(tmp_path)  # onnx looks for the file there, too

    def make(name):
        model = tmp_path / "sub" / "m.onnx"
        model.parent.mkdir()
        net = onnx.load(tiny_onnx())
        onnx.save(net, model, save_as_external_data=True, location=name, size_threshold=60)
        package(Contents((model,), references=(model,)), tmp_path / "p.tar")
        return read_package(tmp_path / "p.tar", require_signature=False)

    return make


@pytest.mark.parametrize("name", ["model.onnx", "labels.txt", "Makefile"])
def test_external_data_take_no_other_file_s_place(name, with_data, tmp_path):
    made = tmp_path / "made"
    with (
        with_data(name) as packed,
        pytest.raises(ArtifactError, match=f"two files would have the name {name}: one of the"),
    ):
        write_pipeline(packed, made)
    assert not made.exists()


def test_external_data_come_along(with_data, tmp_path):
    with with_data("m.data") as packed:
        write_pipeline(packed, tmp_path / "made")
    data = (tmp_path / "made" / "m.data").read_bytes()
    assert data == (tmp_path / "sub" / "m.data").read_bytes()
    assert data
