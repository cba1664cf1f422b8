"""What the families around Deformable DETR share: their shape, how they start, and their memory.

Both are made of transformers' Deformable DETR modules, whose fresh weights need three changes. The
backbone comes with frozen batch norms, and a frozen one without pre-trained weights learns nothing.
Embeddings and attention start as small as a language model's, so that all learned references lie at
the centre. And the heads lack the prior of a focal loss. We start as the paper's code does.
There is no dropout: it would blur the outputs of student and teacher for the same queries. And
images have no padding, so that masks of it are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoBackbone, DeformableDetrConfig
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrMLP,
    DeformableDetrMultiscaleDeformableAttention,
    DeformableDetrSelfAttention,
)

from edgedetr.distill.networks.backbones import Backbone, ResNet, hgnet_config, resnet_config
from edgedetr.distill.networks.decoder_hook import require_cells
from edgedetr.distill.types import Memory, Queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor
    from transformers import DeformableDetrModel

PRIOR = 0.01
"""Score of every class before any training, which keeps the focal loss small (Lin et al., 2017)."""


@dataclass(frozen=True)
class Shape:
    """Shape of a detector.

    Attributes:
        backbone: Shape of the backbone, whose last three stages feed the encoder.
        width: Channels of encoder and decoder; a multiple of 32.
        ffn: Hidden channels of the feed-forward layers.
        encoder_layers: Encoder layers.
        layers: Decoder layers.
        queries: Queries, the most objects that a frame can hold.
        levels: Feature levels, of strides 8, 16, 32 and 64.
        heads: Attention heads; ``width / heads`` is a power of two.
        two_stage: Whether the queries come from the encoder's best cells.
    """

    backbone: Backbone | ResNet
    width: int = 256
    ffn: int = 1024
    encoder_layers: int = 6
    layers: int = 6
    queries: int = 300
    levels: int = 4
    heads: int = 8
    two_stage: bool = False


def config_of(shape: Shape, num_classes: int) -> DeformableDetrConfig:
    """Return transformers' configuration of a shape, with iterative box refinement."""
    backbone = shape.backbone
    return DeformableDetrConfig(
        backbone_config=resnet_config(backbone, 3)
        if isinstance(backbone, ResNet)
        else hgnet_config(backbone),
        num_labels=num_classes,
        d_model=shape.width,
        encoder_ffn_dim=shape.ffn,
        decoder_ffn_dim=shape.ffn,
        encoder_layers=shape.encoder_layers,
        decoder_layers=shape.layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        num_feature_levels=shape.levels,
        num_queries=shape.queries,
        two_stage=shape.two_stage,
        two_stage_num_proposals=shape.queries,
        with_box_refine=True,
        dropout=0.0,
    )


@torch.no_grad()
def start_fresh(model: DeformableDetrModel) -> None:
    """Give a fresh model live batch norms, the start of the paper's code, and no masks."""
    model.backbone.model = AutoBackbone.from_config(model.config.backbone_config)
    mixers = (DeformableDetrSelfAttention, DeformableDetrMLP)
    _spread(module for module in model.modules() if isinstance(module, mixers))
    _spread(model.input_proj)
    if model.config.two_stage:
        _spread([model.enc_output, model.pos_trans])
    else:
        model.query_position_embeddings.reset_parameters()
    prepare(model)


def prepare(model: DeformableDetrModel) -> None:
    """Spare a model the masks of padding.

    A two-stage model will refuse inputs with fewer cells than it has queries (`UsageError`).
    """
    if model.config.two_stage:
        check = partial(require_cells, model.config.two_stage_num_proposals)
        model.enc_output.register_forward_pre_hook(check)
    for module in model.modules():
        if isinstance(module, DeformableDetrMultiscaleDeformableAttention):
            module.register_forward_pre_hook(_without_mask, with_kwargs=True)


@torch.no_grad()
def start_heads(class_heads: Iterable[nn.Module], box_heads: Iterable[nn.Module]) -> None:
    """Let class heads begin at the prior and box heads at their reference."""
    for head in (*class_heads, *box_heads):
        for layer in head.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
    for head in class_heads:
        nn.init.constant_(head.bias, math.log(PRIOR / (1 - PRIOR)))  # type: ignore[arg-type]
    for head in box_heads:
        nn.init.zeros_(head.layers[-1].weight)  # type: ignore[index, union-attr]
        nn.init.zeros_(head.layers[-1].bias)  # type: ignore[index, union-attr]


def memory_of(tokens: Tensor, content: Tensor, boxes: Tensor, call: Mapping[str, Any]) -> Memory:
    """Return the memory of images that have no padding.

    Args:
        tokens: The encoder's (B, P, D).
        content: Content of the model's own queries, (B, Q, D) or wider.
        boxes: Their references, cxcywh in [0, 1], (B, Q, 4).
        call: Keywords that encoder and decoder are called with, which hold the levels' grids.
    """
    every = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    return Memory(
        tokens=tokens,
        spatial_shapes=tuple((int(h), int(w)) for h, w in call["spatial_shapes_list"]),
        mask=torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device),
        own=Queries(content, boxes, every),
        decoder_inputs={
            name: call[name]
            for name in ("spatial_shapes", "spatial_shapes_list", "level_start_index")
        },
    )


def _without_mask(
    _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Spare deformable attention the mask of padded cells: there are none."""
    return args, {**kwargs, "attention_mask": None}


def _spread(modules: Iterable[nn.Module]) -> None:
    """Start the weights of some modules as Glorot and Bengio do."""
    for module in modules:
        for parameter in module.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
