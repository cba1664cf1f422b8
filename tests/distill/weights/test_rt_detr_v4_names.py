import pytest
import torch

from edgedetr.distill.weights.rt_detr_v4_names import in_names_of_transformers, name_in_transformers
from edgedetr.runtime.errors import ArtifactError


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (
            "backbone.stages.2.blocks.0.layers.1.conv2.bn.running_mean",
            "model.backbone.model.encoder.stages.2.blocks.0.layers.1.conv2.normalization"
            ".running_mean",
        ),
        ("backbone.stem.stem2a.lab.scale", "model.backbone.model.embedder.stem2a.lab.scale"),
        ("encoder.input_proj.1.norm.bias", "model.encoder_input_proj.1.1.bias"),
        (
            "encoder.encoder.0.layers.0.norm2.weight",
            "model.encoder.aifi.0.layers.0.final_layer_norm.weight",
        ),
        (
            "encoder.pan_blocks.1.cv3.0.bottlenecks.2.conv1.norm.weight",
            "model.encoder.pan_blocks.1.csp_rep2.bottlenecks.2.conv1.norm.weight",
        ),
        ("encoder.fpn_blocks.0.cv3.1.conv.weight", "model.encoder.fpn_blocks.0.conv3.conv.weight"),
        (
            "encoder.downsample_convs.0.0.cv2.norm.bias",
            "model.encoder.downsample_convs.0.conv2.norm.bias",
        ),
        (
            "decoder.decoder.layers.3.gateway.norm.bias",
            "model.decoder.layers.3.gateway.norm.bias",
        ),
        (
            "decoder.decoder.layers.3.cross_attn.num_points_scale",
            "model.decoder.layers.3.encoder_attn.num_points_scale",
        ),
        ("decoder.dec_score_head.2.bias", "model.decoder.class_embed.2.bias"),
        ("decoder.reg_scale", "model.decoder.reg_scale"),
    ],
)
def test_a_part_has_a_name_in_transformers(theirs, ours):
    assert name_in_transformers(theirs) == ours


def test_queries_keys_and_values_come_apart_and_training_alone_is_left_out():
    place = "decoder.decoder.layers.0.self_attn.in_proj_"
    found = in_names_of_transformers(
        {
            f"{place}weight": torch.arange(6.0).reshape(6, 1).expand(6, 2),
            f"{place}bias": torch.arange(6.0),
            "encoder.feature_projector.0.weight": torch.ones(1),
            "decoder.decoder.up": torch.ones(1),
            "decoder.anchors": torch.ones(1),
        }
    )
    attention = "model.decoder.layers.0.self_attn."
    assert {
        name.removeprefix(attention): t[:, 0].tolist() for name, t in found.items() if t.ndim > 1
    } == {
        "q_proj.weight": [0, 1],
        "k_proj.weight": [2, 3],
        "v_proj.weight": [4, 5],
    }
    assert found[f"{attention}k_proj.bias"].tolist() == [2, 3]
    assert len(found) == 6


def test_a_frozen_norm_has_counted_no_batch():
    found = in_names_of_transformers({"encoder.input_proj.0.norm.running_mean": torch.ones(1)})
    assert found["model.encoder_input_proj.0.1.num_batches_tracked"] == 0


def test_what_is_no_part_of_it_is_named():
    with pytest.raises(ArtifactError, match=r"keypoint_head\.weight is no tensor of RT-DETRv4"):
        name_in_transformers("keypoint_head.weight")
