"""DAB-DETR (Liu et al., 2022) from transformers: learned anchor boxes as queries, one level.

The presets ``r18`` to ``r101`` follow the published sizes (memory at stride 32); the ``edge`` ones
are ours, with an HGNetV2 whose memory lies at stride 16. Every backbone starts without pre-trained
weights, so its batch norms stay live.

A query is its box: its content is zero, so that labels make no difference to this family.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AutoBackbone, DabDetrConfig, DabDetrForObjectDetection
from transformers.models.dab_detr.modeling_dab_detr import encode_sinusoidal_position_embedding

from edgedetr.distill.networks.backbones import (
    EDGE_SMALL,
    EDGE_TINY,
    R18,
    R50,
    R101,
    Backbone,
    ResNet,
    hgnet_config,
    resnet_config,
)
from edgedetr.distill.networks.decoder_hook import inverse_sigmoid, self_attention_mask
from edgedetr.distill.networks.focal_criterion import FocalWeights, focal_losses
from edgedetr.distill.networks.transformers_model import config_from, network_from
from edgedetr.distill.types import DetrOutputs, Losses, Memory, Queries, Regions, Targets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PreTrainedModel

MIN_SIZE = 1e-3
"""Smallest width and height of a reference box: the decoder divides by them."""

CLASS_PRIOR = 0.01
"""Probability that every class starts with (Lin et al., 2017); transformers has 1 / (K + 1)."""


@dataclass(frozen=True)
class Preset:
    """Shape of a DAB-DETR.

    Attributes:
        backbone: Shape of the backbone; its last stage feeds the encoder.
        width: Channels of encoder and decoder.
        ffn: Hidden channels of the feed-forward layers.
        encoder_layers: Encoder layers.
        decoder_layers: Decoder layers.
        queries: Queries, the most objects that a frame can hold.
    """

    backbone: Backbone | ResNet
    width: int = 256
    ffn: int = 2048
    encoder_layers: int = 6
    decoder_layers: int = 6
    queries: int = 300


def _one_level(shape: Backbone) -> Backbone:
    return replace(shape, mid=shape.mid[:3], out=shape.out[:3], levels=1)


PRESETS: dict[str, Preset] = {
    "edge-tiny": Preset(_one_level(EDGE_TINY), 96, 192, 2, 2, 40),
    "edge-small": Preset(_one_level(EDGE_SMALL), 128, 512, 3, 3, 60),
    "r18": Preset(R18),
    "r50": Preset(R50),
    "r101": Preset(R101),
}


def build(preset: str, num_classes: int) -> nn.Module:
    """Make a DAB-DETR with fresh weights."""
    shape = PRESETS[preset]
    backbone = shape.backbone
    config = DabDetrConfig(
        backbone_config=resnet_config(backbone, 1)
        if isinstance(backbone, ResNet)
        else hgnet_config(backbone),
        num_labels=num_classes,
        hidden_size=shape.width,
        encoder_layers=shape.encoder_layers,
        encoder_ffn_dim=shape.ffn,
        decoder_layers=shape.decoder_layers,
        decoder_ffn_dim=shape.ffn,
        num_queries=shape.queries,
        dropout=0.0,
        initializer_bias_prior_prob=CLASS_PRIOR,
    )
    network: nn.Module = DabDetrForObjectDetection(config)
    _as_published(network)
    return network


def build_from(
    config: Mapping[str, Any], num_classes: int, tensors: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """Make the model of a ``config.json``, see `ImportableModule`."""
    values = config_from(DabDetrConfig, config, num_classes)
    return network_from(DabDetrForObjectDetection, values, tensors)


def width(model: PreTrainedModel) -> int:
    """Return the channels of the memory."""
    return int(model.config.hidden_size)


def embedding_width(model: PreTrainedModel) -> int:
    """Return the channels of a region's embedding: those of the decoder."""
    return width(model)


def anchor_kinds(model: PreTrainedModel) -> int:
    """Return 1: a query has one box."""
    del model
    return 1


def predict(model: PreTrainedModel, images: Tensor) -> tuple[Tensor, Tensor]:
    """Detect in (B, 3, H, W): logits (B, Q, K) and boxes (B, Q, 4), cxcywh in [0, 1]."""
    memory = encode(model, images)
    outputs = _outputs(model, memory, memory.own, None)
    return outputs.logits[-1], outputs.boxes[-1]


def training_pass(
    model: PreTrainedModel, images: Tensor, targets: Sequence[Targets]
) -> tuple[Losses, Memory]:
    """Return the model's own weighted losses by name, and the memory they came from."""
    memory = encode(model, images)
    outputs = decode(model, memory, memory.own)
    return focal_losses(FocalWeights(), outputs.logits, outputs.boxes, targets), memory


def encode(model: PreTrainedModel, images: Tensor) -> Memory:
    """Run backbone and encoder on (B, 3, H, W); the decoder does not run."""
    core = model.model
    everywhere = images.new_ones((len(images), *images.shape[2:]))
    features, positions = core.backbone(images, everywhere)
    level = core.input_projection(features[-1][0])
    places = positions[-1].flatten(2).transpose(1, 2)
    tokens = core.encoder(
        inputs_embeds=level.flatten(2).transpose(1, 2), attention_mask=None, object_queries=places
    ).last_hidden_state
    content, boxes = _own_queries(model, len(images))
    valid, mask = (
        torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) for x in (boxes, tokens)
    )
    return Memory(
        tokens=tokens,
        spatial_shapes=((int(level.shape[2]), int(level.shape[3])),),
        mask=mask,
        own=Queries(content, boxes, valid),
        decoder_inputs={"places": places[:1]},
    )


def _own_queries(model: PreTrainedModel, batch: int) -> tuple[Tensor, Tensor]:
    """Return content (B, Q, D) and boxes (B, Q, 4) of a model's own queries.

    Where it has patterns, each of them is the content of all its boxes once.
    """
    core = model.model
    boxes = core.query_refpoint_embeddings.weight.sigmoid()
    content = boxes.new_zeros((len(boxes), width(model)))
    if core.num_patterns:
        content = core.patterns.weight.repeat_interleave(len(boxes), 0)
        boxes = boxes.repeat(core.num_patterns, 1)
    return content.expand(batch, -1, -1), boxes.expand(batch, -1, -1)


def label_content(model: PreTrainedModel, labels: Tensor, boxes: Tensor) -> Tensor:
    """Return zeros (B, Q, D): a query is its box."""
    del labels
    return boxes.new_zeros((*boxes.shape[:2], width(model)))


def place_content(model: PreTrainedModel, memory: Memory, boxes: Tensor) -> Tensor:
    """Return zeros (B, Q, D): a query is its box."""
    del memory
    return boxes.new_zeros((*boxes.shape[:2], width(model)))


def decode(model: PreTrainedModel, memory: Memory, queries: Queries) -> DetrOutputs:
    """Decode external queries with every decoder layer.

    Args:
        model: The detector.
        memory: What its encoder gave.
        queries: Boxes cxcywh in [0, 1]; a side below `MIN_SIZE` counts as that.

    Returns:
        Logits (E, B, Q, K) and boxes (E, B, Q, 4). A layer's boxes refine those of the layer before
        with gradient, as published, while the references that the layer attends with have none.
        Outputs of slots that are not valid mean nothing, and no other slot sees these slots;
        neither does a group see another group.
    """
    return _outputs(model, memory, queries, self_attention_mask(queries))


def regions(model: PreTrainedModel, memory: Memory) -> Regions:
    """Return the last layer's boxes of the model's own queries, with their embeddings."""
    return decode(model, memory, memory.own).regions()


def _as_published(network: PreTrainedModel) -> None:
    """Start where the published model does, and with live batch norms.

    transformers freezes the backbone's batch norms in any case. It also draws every matrix with a
    deviation of 0.02, with which narrow layers vanish and all anchors are the same box.
    """
    model = network.model
    model.backbone.conv_encoder.model = AutoBackbone.from_config(network.config.backbone_config)
    head = {id(p) for p in network.bbox_predictor.parameters()}
    for part in (model.encoder, model.decoder):
        for parameter in part.parameters():
            if parameter.ndim > 1 and id(parameter) not in head:
                nn.init.xavier_uniform_(parameter)
    nn.init.normal_(model.query_refpoint_embeddings.weight)


def _outputs(
    model: PreTrainedModel, memory: Memory, queries: Queries, mask: Tensor | None
) -> DetrOutputs:
    """Run the layers as transformers' decoder does.

    That one lets no mask reach the layers and writes into slices, which ONNX cannot express.
    """
    decoder, hidden = model.model.decoder, queries.content
    center, size = torch.split(queries.boxes, 2, dim=-1)
    boxes = torch.cat([center, size.clamp(min=MIN_SIZE)], dim=-1)
    places = memory.decoder_inputs["places"].expand_as(memory.tokens)
    normed, refined = [], []
    for index, layer in enumerate(decoder.layers):
        reference = boxes if index == 0 else boxes.detach()
        position, sine = _position(decoder, reference, hidden, first=index == 0)
        hidden = layer(hidden, mask, places, position, sine, memory.tokens)[0]
        normed.append(decoder.layernorm(hidden))
        refined.append((model.bbox_predictor(normed[-1]) + inverse_sigmoid(boxes)).sigmoid())
        boxes = (model.bbox_predictor(hidden) + inverse_sigmoid(reference)).sigmoid()
    logits = model.class_embed(torch.stack(normed))
    return DetrOutputs(logits, torch.stack(refined), normed[-1])


def _position(
    decoder: PreTrainedModel, reference: Tensor, hidden: Tensor, *, first: bool
) -> tuple[Tensor, Tensor]:
    """Embed boxes (B, Q, 4) for self-attention and for cross-attention, (B, Q, D) each.

    Width and height modulate the latter (Liu et al., 2022, equation 6).
    """
    sine = encode_sinusoidal_position_embedding(reference, num_pos_feats=hidden.shape[-1] // 2)
    y, x = sine[..., : hidden.shape[-1]].chunk(2, dim=-1)
    ratio = decoder.ref_anchor_head(hidden).sigmoid() / reference[..., 2:]
    center = torch.cat([y * ratio[..., 1:], x * ratio[..., :1]], dim=-1)
    return decoder.ref_point_head(sine), center if first else center * decoder.query_scale(hidden)
