import json

import pytest
import torch
from safetensors.torch import save_file

from edgedetr.distill.weights.source_tensors import read_tensors
from edgedetr.runtime.errors import ArtifactError


def test_the_parts_that_an_index_names_are_one(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "model-1.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "model-2.safetensors")
    places = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert {k: tuple(v.shape) for k, v in read_tensors(tmp_path).items()} == {"a": (2,), "b": (3,)}
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"model-2\.safetensors is missing: a part"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("text", ["{", "{}", '{"weight_map": {"a": "../../other"}}'])
def test_a_damaged_index_is_refused(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ArtifactError, match="index"):
        read_tensors(tmp_path)


def test_half_a_download_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ArtifactError, match=r"half of a download; download it again"):
        read_tensors(tmp_path)


def test_a_pickle_is_not_opened(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(ArtifactError, match=r"the pickle pytorch_model\.bin, which may run code"):
        read_tensors(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"model\.safetensors is missing; bring it"):
        read_tensors(tmp_path)


def test_tensors_that_are_not_finite_are_refused(tmp_path):
    save_file({"a": torch.tensor([1.0, torch.nan])}, tmp_path / "model.safetensors")
    with pytest.raises(ArtifactError, match="a is not finite everywhere"):
        read_tensors(tmp_path)
