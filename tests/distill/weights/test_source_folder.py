import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from edgedetr.distill.weights.source_folder import source_folder
from edgedetr.runtime.errors import ArtifactError

NAME = "somebody/detector"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own."""
    monkeypatch.setenv("EDGEDETR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_folder_is_itself(tmp_path):
    assert source_folder(str(tmp_path)) == tmp_path


def test_a_name_is_downloaded_without_any_pickle(tmp_path, monkeypatch):
    asked = []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert source_folder(NAME) == tmp_path
    assert asked[0][0] == NAME
    assert all(pattern.endswith((".json", ".safetensors")) for pattern in asked[0][1])


def test_without_a_network_the_line_says_what_to_bring_and_where_to(cache, monkeypatch):
    def download(*_, **__):
        raise LocalEntryNotFoundError("no connection\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ArtifactError, match="preprocessor_config") as e:
        source_folder(NAME)
    assert "\n" not in str(e.value)
    place = cache / "hub" / NAME
    assert str(e.value).endswith(f"of https://huggingface.co/{NAME} and put them into {place}")
    place.mkdir(parents=True)
    (place / "config.json").touch()
    assert source_folder(NAME) == place


def test_what_is_no_model_is_refused(tmp_path):
    for name in ("detector.pt", "detector.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(ArtifactError, match="is a pickle, which may run code"):
        source_folder(str(tmp_path / "detector.pt"))
    with pytest.raises(ArtifactError, match="is a file; wanted a folder with config"):
        source_folder(str(tmp_path / "detector.safetensors"))
    with pytest.raises(ArtifactError, match="does not exist; wanted a folder"):
        source_folder(str(tmp_path / "nothing"))
