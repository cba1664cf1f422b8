import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from edgedetr.distill.weights.source_place import source_place
from edgedetr.runtime.errors import ArtifactError

NAME = "somebody/detector"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own."""
    monkeypatch.setenv("EDGEDETR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_folder_is_itself(tmp_path):
    assert source_place(str(tmp_path)) == tmp_path


def test_a_name_is_downloaded_without_any_pickle(tmp_path, monkeypatch):
    asked = []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert source_place(NAME) == tmp_path
    assert asked[0][0] == NAME
    assert all(pattern.endswith((".json", ".safetensors")) for pattern in asked[0][1])


def test_without_a_network_the_line_says_what_to_bring_and_where_to(cache, monkeypatch):
    def download(*_, **__):
        raise LocalEntryNotFoundError("no connection\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ArtifactError, match="preprocessor_config") as e:
        source_place(NAME)
    assert "\n" not in str(e.value)
    place = cache / "hub" / NAME
    assert str(e.value).endswith(f"of https://huggingface.co/{NAME} and put them into {place}")
    place.mkdir(parents=True)
    (place / "config.json").touch()
    assert source_place(NAME) == place


def test_what_is_no_model_is_refused(tmp_path):
    for name in ("detector.pt", "detector.onnx", "detector.safetensors"):
        (tmp_path / name).touch()
    file = tmp_path / "detector.safetensors"
    assert source_place(str(file)) == file
    with pytest.raises(ArtifactError, match="is a pickle, which may run code"):
        source_place(str(tmp_path / "detector.pt"))
    with pytest.raises(ArtifactError, match="is a file; wanted a folder with config"):
        source_place(str(tmp_path / "detector.onnx"))
    with pytest.raises(ArtifactError, match="does not exist; wanted a folder"):
        source_place(str(tmp_path / "nothing"))


def test_a_backbone_of_torchvision_is_that_of_timm_and_needs_no_preprocessor(cache, monkeypatch):
    def download(*_, **__):
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ArtifactError) as e:
        source_place("torchvision:resnet50")
    place = cache / "hub" / "timm/resnet50.tv_in1k"
    assert "bring config.json and model.safetensors of https://huggingface.co/timm/" in str(e.value)
    assert str(e.value).endswith(str(place))
