from pathlib import Path

import pytest

from edgedetr.runtime.hub import cache_folder, is_foreign


@pytest.mark.parametrize("name", ["ustc-community/dfine-large-coco", "a/rt_detr.v1", "a/b-1.0"])
def test_a_name_of_the_hub_is_one(name):
    assert is_foreign(name) == ("." not in name or name == "a/b-1.0")


@pytest.mark.parametrize("name", ["student", "runs/a/student", "runs/a.onnx", "/a/b", "a/../b"])
def test_a_path_is_none(name):
    assert not is_foreign(name)


def test_a_folder_with_a_config_is_foreign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("models/detector")
    assert is_foreign(folder)
    folder.mkdir(parents=True)
    assert not is_foreign(folder)
    (folder / "config.json").touch()
    assert is_foreign(folder)


def test_the_cache_lies_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("EDGEDETR_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache_folder("hub") == tmp_path / ".cache" / "edgedetr" / "hub"
    monkeypatch.setenv("XDG_CACHE_HOME", "/shared")
    assert cache_folder("hub") == Path("/shared/edgedetr/hub")
    monkeypatch.setenv("EDGEDETR_CACHE", "/own")
    assert cache_folder("hub") == Path("/own/hub")
