import json

import pytest

from edgedetr.distill.weights.normalization import normalization_of
from edgedetr.runtime.errors import ArtifactError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def beside(folder, **values):
    (folder / "preprocessor_config.json").write_text(json.dumps(values), encoding="utf-8")
    return str(folder / "model.safetensors")


def test_what_a_processor_says_is_in_units_of_the_brightest_pixel(tmp_path):
    assert normalization_of(str(tmp_path / "model.safetensors")) is None
    given = {"image_mean": MEAN, "image_std": STD}
    source = beside(tmp_path, do_normalize=True, do_rescale=True, **given)
    assert normalization_of(source) == (MEAN, STD)
    assert normalization_of(str(tmp_path)) == (MEAN, STD)
    beside(tmp_path, do_normalize=False, **given)
    assert normalization_of(source) == ((0.0,) * 3, (1.0,) * 3)
    of_pixels = {"image_mean": [255 * m for m in MEAN], "image_std": [255 * s for s in STD]}
    beside(tmp_path, do_rescale=False, **of_pixels)
    assert normalization_of(source) == (MEAN, STD)


def test_timm_says_it_in_its_config(tmp_path):
    config = {"pretrained_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert normalization_of(str(tmp_path / "w.safetensors")) == ((0.5,) * 3, (0.25,) * 3)


def test_a_damaged_processor_is_one_line(tmp_path):
    source = beside(tmp_path, image_mean=[0.5, 0.5], image_std=[1, 1])
    with pytest.raises(ArtifactError, match=r"preprocessor_config\.json: not a readable"):
        normalization_of(source)


def test_what_was_brought_says_it_without_the_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEDETR_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", None)
    place = tmp_path / "hub" / "timm" / "resnet18.tv_in1k"
    place.mkdir(parents=True)
    content = {"pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]}}
    (place / "config.json").write_text(json.dumps(content))
    assert normalization_of("resnet18") == ((0.1, 0.2, 0.3), (1, 2, 3))
