"""The names that RT-DETRv4's own code gives its tensors, in transformers' names for D-FINE.

RT-DETRv4 (Liao et al., 2025) is D-FINE's network: HGNetV2, hybrid encoder, D-FINE's decoder. What
it adds is used in training alone. Its code names the parts as D-FINE's own does; transformers has
other names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

PROJECTOR = "encoder.feature_projector."
"""Begins what led the features to the foundation model's: D-FINE and DEIM have no such tensor."""
MEAN = "running_mean"
UNUSED = re.compile(
    r"encoder\.feature_projector\..*|decoder\.decoder\.(?:up|reg_scale)|decoder\.(?:anchors|valid_mask)"
)
"""What detection does not need: the projector, second names of two tensors, and constants."""

_PLACES = (
    (r"backbone\.stem\.", "model.backbone.model.embedder."),
    (r"backbone\.stages\.", "model.backbone.model.encoder.stages."),
    (r"encoder\.input_proj\.(\d+)\.conv\.", r"model.encoder_input_proj.\1.0."),
    (r"encoder\.input_proj\.(\d+)\.norm\.", r"model.encoder_input_proj.\1.1."),
    (r"encoder\.encoder\.", "model.encoder.aifi."),
    (r"encoder\.(lateral_convs|fpn_blocks|pan_blocks)\.", r"model.encoder.\1."),
    (r"encoder\.downsample_convs\.(\d+)\.0\.cv", r"model.encoder.downsample_convs.\1.conv"),
    (r"decoder\.decoder\.", "model.decoder."),
    (r"decoder\.input_proj\.(\d+)\.conv\.", r"model.decoder_input_proj.\1.0."),
    (r"decoder\.input_proj\.(\d+)\.norm\.", r"model.decoder_input_proj.\1.1."),
    (r"decoder\.enc_output\.proj\.", "model.enc_output.0."),
    (r"decoder\.enc_output\.norm\.", "model.enc_output.1."),
    (r"decoder\.(enc_score_head|enc_bbox_head|denoising_class_embed)\.", r"model.\1."),
    (r"decoder\.dec_score_head\.", "model.decoder.class_embed."),
    (r"decoder\.dec_bbox_head\.", "model.decoder.bbox_embed."),
    (r"decoder\.(pre_bbox_head\.|query_pos_head\.|up$|reg_scale$)", r"model.decoder.\1"),
)
"""What a name begins with there, and here."""

_BLOCK = (
    (r"\.cv1\.", ".conv1."),
    (r"\.cv2\.0\.", ".csp_rep1."),
    (r"\.cv2\.1\.", ".conv2."),
    (r"\.cv3\.0\.", ".csp_rep2."),
    (r"\.cv3\.1\.", ".conv3."),
    (r"\.cv4\.", ".conv4."),
)
_LAYER = (
    (r"\.out_proj\.", ".o_proj."),
    (r"\.cross_attn\.", ".encoder_attn."),
    (r"\.linear1\.", ".mlp.layers.0."),
    (r"\.linear2\.", ".mlp.layers.1."),
    (r"(layers\.\d+)\.norm1\.", r"\1.self_attn_layer_norm."),
)
_PARTS: dict[str, tuple[tuple[str, str], ...]] = {
    "model.backbone.": (
        (r"\.conv\.weight$", ".convolution.weight"),
        (r"\.bn\.", ".normalization."),
    ),
    "model.encoder.fpn_blocks.": _BLOCK,
    "model.encoder.pan_blocks.": _BLOCK,
    "model.encoder.aifi.": (*_LAYER, (r"(layers\.\d+)\.norm2\.", r"\1.final_layer_norm.")),
    "model.decoder.layers.": (*_LAYER, (r"(layers\.\d+)\.norm3\.", r"\1.final_layer_norm.")),
}
"""What is called otherwise inside such a place."""


def name_in_transformers(name: str) -> str:
    """Return transformers' name of a tensor; ``in_proj`` keeps its own last part.

    >>> name_in_transformers("decoder.decoder.layers.0.linear1.bias")
    'model.decoder.layers.0.mlp.layers.0.bias'

    Raises:
        ArtifactError: If RT-DETRv4 has no part of this name.
    """
    for theirs, ours in _PLACES:
        found, count = re.subn(rf"^{theirs}", ours, name)
        if count:
            break
    else:
        raise ArtifactError(f"{name} is no tensor of RT-DETRv4")
    place = next((place for place in _PARTS if found.startswith(place)), None)
    for theirs, ours in _PARTS[place] if place else ():
        found = re.sub(theirs, ours, found)
    return found


def in_names_of_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a file, with queries, keys and values apart, without what is `UNUSED`.

    Raises:
        ArtifactError: If a tensor is none of RT-DETRv4's.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if UNUSED.fullmatch(name):
            continue
        found = name_in_transformers(name)
        if ".in_proj_" in found:
            place, kind = found.split("in_proj_")
            for part, third in zip("qkv", tensor.chunk(3), strict=True):
                renamed[f"{place}{part}_proj.{kind}"] = third
        else:
            renamed[found] = tensor
    for name in [name for name in renamed if name.endswith(MEAN)]:  # frozen norms count no batches
        renamed.setdefault(f"{name.removesuffix(MEAN)}num_batches_tracked", torch.tensor(0))
    return renamed
