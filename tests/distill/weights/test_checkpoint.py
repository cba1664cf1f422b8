import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from edgedetr.distill.weights.checkpoint import load_model, save_model
from edgedetr.distill.weights.importing import import_model
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.manifest import manifest_path, read_manifest
from edgedetr.runtime.plugins import names


@pytest.mark.parametrize("family", names("edgedetr.distill.detectors"))
def test_a_model_comes_back_as_it_was(family, make_model, images, tmp_path):
    model, path = make_model(family), tmp_path / "m.safetensors"
    save_model(path, model, command="a test", summary="fine")
    back = load_model(path)
    assert (back.family, back.preset, back.spec) == (model.family, model.preset, model.spec)
    with torch.no_grad():
        for one, two in zip(
            model.predict(images),
            back.predict(images),
            strict=True,
        ):
            assert torch.equal(one, two)
    assert read_manifest(path).summary == "fine"
    written = {p.name for p in tmp_path.iterdir()}
    assert written == {"m.safetensors", "m.safetensors.manifest.json"}


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ArtifactError, match="edgedetr distill train"):
        load_model(tmp_path / "none.safetensors")


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80" * 64, b"\xff" * 8 + b"rest"])
def test_a_damaged_file_is_one_line(tmp_path, content):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="no readable safetensors file"):
        load_model(path)


def test_a_cut_off_file_is_one_line(tmp_path, make_model):
    path = tmp_path / "m.safetensors"
    save_model(path, make_model(), command="a test")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ArtifactError, match="no readable safetensors file"):
        load_model(path)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(ArtifactError, match="does not say which model"):
        load_model(path)


def test_weights_of_another_preset_are_refused(tmp_path, make_model):
    path = tmp_path / "m.safetensors"
    model = make_model()
    metadata = {
        "edgedetr.spec": model.spec.to_json(),
        "edgedetr.model": json.dumps({"family": "d_fine", "preset": "edge-small"}),
    }
    save_file({"w": torch.zeros(2)}, path, metadata)
    with pytest.raises(ArtifactError, match="does not fit d_fine/edge-small"):
        load_model(path)


@pytest.mark.parametrize(
    "damage",
    ["{", "[]", "[" * 90_000, "9" * 6000, '{"family": "d_fine"}', '{"family": 3, "preset": ""}'],
    ids=range(6),
)
def test_damaged_metadata_is_one_line(tmp_path, make_model, damage):
    path = tmp_path / "m.safetensors"
    metadata = {"edgedetr.spec": make_model().spec.to_json(), "edgedetr.model": damage}
    save_file({"w": torch.zeros(2)}, path, metadata)
    with pytest.raises(ArtifactError, match="its metadata is damaged"):
        load_model(path)


def test_weights_that_are_not_finite_are_refused(tmp_path, make_model):
    model = make_model()
    name, weight = next(iter(model.network.named_parameters()))
    with torch.no_grad():
        weight.view(-1)[0] = float("nan")
    save_model(tmp_path / "m.safetensors", model, command="a test")
    with pytest.raises(ArtifactError, match=f"{re.escape(name)} is not finite everywhere"):
        load_model(tmp_path / "m.safetensors")


def test_a_changed_file_does_not_match_its_manifest(tmp_path, make_model):
    path = tmp_path / "m.safetensors"
    save_model(path, make_model(), command="a test")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="does not match its manifest"):
        read_manifest(path)
    manifest_path(path).write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError, match="not a manifest"):
        read_manifest(path)


def test_an_architecture_that_dwarfs_its_file_is_refused(tmp_path, foreign):
    path = tmp_path / "m.safetensors"
    model = import_model(foreign(), path)
    own = model.architecture
    assert own
    config = {**own.config, "decoder_ffn_dim": 10**8}
    hostile = replace(model, architecture=replace(own, config=config))
    save_model(path, hostile, command="a test")
    with pytest.raises(ArtifactError, match=r"its config asks for a network of \d+ parameters"):
        load_model(path)
