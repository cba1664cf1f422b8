import torch
from torch import nn
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrMLPPredictionHead,
)

from edgedetr.distill.networks.backbones import EDGE_TINY
from edgedetr.distill.networks.deformable_detr import (
    PRIOR,
    Shape,
    config_of,
    memory_of,
    start_heads,
)


def test_the_configuration_has_the_shape():
    shape = Shape(EDGE_TINY, 96, 192, 2, 3, 40, levels=3, heads=6, two_stage=True)
    config = config_of(shape, 5)
    assert (config.num_labels, config.d_model, config.num_queries) == (5, 96, 40)
    assert (config.encoder_layers, config.decoder_layers, config.num_feature_levels) == (2, 3, 3)
    assert config.two_stage
    assert config.with_box_refine
    assert config.dropout == 0


def test_heads_start_at_the_prior_and_at_the_reference():
    classes, boxes = nn.Linear(8, 3), DeformableDetrMLPPredictionHead(8, 8, 4, 3)
    start_heads([classes], [boxes])
    torch.testing.assert_close(classes.bias.sigmoid(), torch.full((3,), PRIOR))
    assert boxes(torch.randn(5, 8)).abs().max() == 0


def test_a_memory_without_padding_is_all_valid():
    call = {"spatial_shapes_list": [(2, 3), (1, 2)], "spatial_shapes": 0, "level_start_index": 1}
    memory = memory_of(
        torch.zeros(2, 8, 4), torch.zeros(2, 5, 4), torch.zeros(2, 5, 4), {**call, "other": 2}
    )
    assert memory.spatial_shapes == ((2, 3), (1, 2))
    assert memory.mask.all()
    assert memory.own.valid.shape == (2, 5)
    assert memory.decoder_inputs == call
