import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from edgedetr.distill.networks.torchvision_model import (
    EPS,
    MODEL,
    filled,
    published_anchors,
    published_network,
)
from edgedetr.runtime.errors import ArtifactError


def test_anchors_are_those_of_torchvision_where_levels_do_not_divide_the_input():
    model = published_network({MODEL: "retinanet_resnet50_fpn"}, 3)
    theirs = model.anchor_generator
    levels = [
        torch.zeros(1, 1, rows, columns)
        for rows, columns in ((12, 20), (6, 10), (3, 5), (2, 3), (1, 2))
    ]
    image = torch.zeros(1, 3, 96, 160)
    (wanted,) = theirs(ImageList(image, [(96, 160)]), levels)
    assert torch.equal(published_anchors(theirs).on(levels, (96, 160)), wanted)


def test_norms_are_frozen_where_the_config_says_what_they_add():
    kinds = {
        eps: {type(m).__name__ for m in published_network(config, 3).modules()}
        for eps in (None, 0.0)
        for config in [{MODEL: "fcos_resnet50_fpn", EPS: eps}]
    }
    assert "BatchNorm2d" in kinds[None]
    assert "FrozenBatchNorm2d" in kinds[0.0]
    assert "BatchNorm2d" not in kinds[0.0]


def test_other_models_and_other_weights_are_one_line():
    with pytest.raises(ArtifactError, match="'ssd300_vgg16' is no model that can be imported; tho"):
        published_network({MODEL: "ssd300_vgg16"}, 3)
    model = published_network({MODEL: "fcos_resnet50_fpn"}, 3)
    tensors = model.state_dict() | {"head.more": torch.zeros(1)}
    with pytest.raises(ArtifactError, match=r'Unexpected key.*"head.more".*\(1 problem'):
        filled(model, tensors)
