import json

import pytest
import torch
from transformers import (
    Dinov2Backbone,
    Dinov2Config,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ResNetBackbone,
    ResNetConfig,
)

from edgedetr.distill.weights.foundation import open_foundation
from edgedetr.runtime.errors import ArtifactError

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def saved(model, folder, preprocessor=True):
    model.save_pretrained(folder)
    if preprocessor:
        values = {"do_normalize": True, "image_mean": MEAN, "image_std": STD}
        (folder / "preprocessor_config.json").write_text(json.dumps(values), encoding="utf-8")
    return str(folder)


def tiny_dinov3():
    config = DINOv3ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_register_tokens=4,
    )
    return DINOv3ViTModel(config).eval()


def test_a_dinov3_has_the_features_of_its_own_patches(tmp_path):
    model = tiny_dinov3()
    foundation = open_foundation(saved(model, tmp_path))
    assert (foundation.width, foundation.multiple) == (32, (16, 16))
    assert foundation.spec.mean == tuple(MEAN)
    images = torch.randn(2, 3, 64, 96)
    pyramid = foundation.encode(images)
    (features,) = pyramid.levels
    assert features.shape == (2, 32, 4, 6)
    with torch.no_grad():
        patches = model(images).last_hidden_state[:, 5:]  # behind class token and registers
    torch.testing.assert_close(features.flatten(2).transpose(1, 2), patches, atol=1e-5, rtol=1e-5)
    assert not any(p.requires_grad for p in foundation.network.parameters())


def test_inputs_are_stretched_to_whole_patches(tmp_path):
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=1, image_size=56, patch_size=14
    )
    foundation = open_foundation(saved(Dinov2Backbone(config), tmp_path))
    pyramid = foundation.encode(torch.randn(1, 3, 64, 96))
    assert pyramid.hw == (70, 98)
    assert pyramid.levels[0].shape == (1, 16, 5, 7)


def test_a_convolutional_backbone_gives_its_last_map(tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1])
    foundation = open_foundation(saved(ResNetBackbone(config), tmp_path))
    assert foundation.encode(torch.randn(1, 3, 64, 96)).levels[0].shape == (1, 16, 2, 3)


def test_what_is_no_backbone_is_one_line(tmp_path):
    with pytest.raises(ArtifactError, match=r"no folder nowhere; wanted one with config\.json"):
        open_foundation("nowhere")
    with pytest.raises(ArtifactError, match="is no vision backbone of transformers") as caught:
        open_foundation(str(tmp_path))
    assert "\n" not in str(caught.value)
    folder = tmp_path / "bare"
    with pytest.raises(ArtifactError, match=r"has no preprocessor_config\.json"):
        open_foundation(saved(tiny_dinov3(), folder, preprocessor=False))
