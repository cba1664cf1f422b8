import pytest
from jinja2 import UndefinedError

from edgedetr.export.deploy.folder import new_folder, refuse_antialias, render, write_texts
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.spec import ModelSpec


def test_a_folder_is_whole_or_not_there(tmp_path):
    with new_folder(tmp_path / "made") as folder:
        write_texts(folder, {"a": "one", "b": "two"})
        assert not (tmp_path / "made").exists()
    assert {p.name: p.read_text(encoding="utf-8") for p in (tmp_path / "made").iterdir()} == {
        "a": "one",
        "b": "two",
    }
    with pytest.raises(UsageError, match="made exists"), new_folder(tmp_path / "made"):
        pass
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "half") as folder:
        write_texts(folder, {"a": str(1 / 0)})
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(UndefinedError, match="is undefined"):
        render("triton", "README.md", {})


def test_antialias_is_refused_by_name():
    refuse_antialias(ModelSpec((8, 16), ("Car",)), "nvinfer")
    with pytest.raises(ArtifactError, match="antialias = true, which nvinfer cannot do"):
        refuse_antialias(ModelSpec((8, 16), ("Car",), antialias=True), "nvinfer")
