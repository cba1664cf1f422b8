import pytest

from edgedetr.export.deploy.cpp import FILES
from edgedetr.export.package.keys import keygen
from edgedetr.export.package.write import Contents, package


@pytest.fixture
def packed(tiny_onnx, tmp_path):
    """A signed package; the keys lie beside it."""
    model = tiny_onnx()
    keygen(tmp_path / "k", "")
    keygen(tmp_path / "other", "")
    package(Contents((model,), references=(model,)), tmp_path / "p.tar", tmp_path / "k")
    return tmp_path / "p.tar"


def test_a_program_is_written_for_the_spec_of_a_package(packed, edgedetr, tmp_path):
    folder = tmp_path / "made"
    arguments = ("export", "deploy", packed, "--for", "cpp", "-o", folder)
    status, out, _ = edgedetr(*arguments, "--public-key", tmp_path / "k.pub")
    assert (status, out) == (0, f"{folder}: 5 files for cpp\n")
    assert {p.name for p in folder.iterdir()} == set(FILES)
    assert '"Car", "Pedestrian",' in (folder / "edgedetr.cpp").read_text(encoding="utf-8")
    status, _, err = edgedetr(*arguments)
    assert (status, err.count("\n")) == (2, 1)
    assert "exists" in err


def test_a_package_that_another_key_signed_gets_no_program(packed, edgedetr, tmp_path):
    arguments = ("export", "deploy", packed, "--for", "cpp", "-o", tmp_path / "made")
    status, _, err = edgedetr(*arguments, "--public-key", tmp_path / "other.pub")
    assert status == 1
    assert "another key signed it" in err
    assert not (tmp_path / "made").exists()
