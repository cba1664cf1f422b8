"""DINO (Zhang et al., 2023): two-stage, with contrastive denoising.

Denoising trains it to rebuild objects from boxes near them and to drop boxes that are not so near.
The presets ``r18`` to ``r101`` have the published shape with four levels; the ``edge`` ones are
ours, for small inputs and 2-core machines. For the network see `edgedetr.distill.networks.dino`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers.models.rt_detr.modeling_rt_detr import get_contrastive_denoising_training_group

from edgedetr.distill.networks.backbones import EDGE_SMALL, EDGE_TINY, R18, R50, R101
from edgedetr.distill.networks.decoder_hook import decoder_call, self_attention_mask
from edgedetr.distill.networks.deformable_detr import Shape, config_of, memory_of
from edgedetr.distill.networks.denoising import of_whole_batch
from edgedetr.distill.networks.dino import Dino
from edgedetr.distill.networks.focal_criterion import FocalWeights, Matches, focal_losses
from edgedetr.distill.networks.layer_losses import SILENT_LOGIT
from edgedetr.distill.networks.real_time_detr import anchor_kinds, embedding_width, width
from edgedetr.distill.types import DetrOutputs, Losses, Memory, Queries, Regions, Targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn


@dataclass(frozen=True)
class Preset:
    """Size of a DINO.

    Attributes:
        shape: Shape of the detector.
        denoising: Pairs of denoising queries in training, which all objects of an image share.
    """

    shape: Shape
    denoising: int = 100


PRESETS: dict[str, Preset] = {
    "edge-tiny": Preset(Shape(EDGE_TINY, 96, 192, 2, 2, 40, levels=3, heads=6, two_stage=True), 20),
    "edge-small": Preset(Shape(EDGE_SMALL, 128, 384, 3, 3, 60, levels=3, two_stage=True), 40),
    "r18": Preset(Shape(R18, ffn=2048, queries=900, two_stage=True)),
    "r50": Preset(Shape(R50, ffn=2048, queries=900, two_stage=True)),
    "r101": Preset(Shape(R101, ffn=2048, queries=900, two_stage=True)),
}

WEIGHTS = FocalWeights()

LABEL_NOISE = 0.5
"""Twice the share of denoising queries that are given a random class."""

BOX_NOISE = 1.0
"""How far the edges of a denoising query's box move, in halves of the object's size.

Positives move by up to this, negatives by this to twice as far.
"""


def build(preset: str, num_classes: int) -> nn.Module:
    """Make a DINO with fresh weights."""
    size = PRESETS[preset]
    return Dino(config_of(size.shape, num_classes), size.denoising)


def predict(model: Dino, images: Tensor) -> tuple[Tensor, Tensor]:
    """Detect in (B, 3, H, W): logits (B, Q, K) and boxes (B, Q, 4), cxcywh in [0, 1]."""
    memory = encode(model, images)
    outputs = _decoded(model, memory, memory.own.content, memory.own.boxes)
    return outputs.logits[-1], outputs.boxes[-1]


def training_pass(model: Dino, images: Tensor, targets: Sequence[Targets]) -> tuple[Losses, Memory]:
    """Return the weighted losses by name, and the memory they came from.

    Besides all decoder layers, the chosen encoder cells have losses, and the denoising queries,
    unless no image has an object.
    """
    memory, logits, boxes = _encode(model, images)
    losses = focal_losses(WEIGHTS, logits[None], boxes[None], targets, part="encoder")
    noisy = denoising_queries(model, targets)
    if noisy is None:
        outputs = _decoded(model, memory, memory.own.content, memory.own.boxes)
        return losses | focal_losses(WEIGHTS, outputs.logits, outputs.boxes, targets), memory
    count = noisy.queries.boxes.shape[1]
    outputs = _decoded(
        model,
        memory,
        torch.cat([noisy.queries.content, memory.own.content], dim=1),
        torch.cat([noisy.queries.boxes, memory.own.boxes], dim=1),
        _side_by_side(self_attention_mask(noisy.queries), memory.own.boxes.shape[1]),
    )
    logits, boxes = outputs.logits, outputs.boxes
    losses |= focal_losses(WEIGHTS, logits[:, :, count:], boxes[:, :, count:], targets)
    silent = ~noisy.queries.valid.unsqueeze(-1)
    losses |= focal_losses(
        WEIGHTS,
        logits[:, :, :count].masked_fill(silent, SILENT_LOGIT),
        boxes[:, :, :count],
        noisy.objects,
        matches=noisy.matches,
        copies=noisy.queries.groups,
        part="denoising",
    )
    return losses, memory


@dataclass(frozen=True, eq=False)
class DenoisingQueries:
    """Noisy copies of the objects, to be cleaned.

    Attributes:
        queries: Groups of one positive and then one negative copy of each object.
        objects: The objects, as often as there are groups.
        matches: Per image the positive queries and their objects.
    """

    queries: Queries
    objects: list[Targets]
    matches: Matches


def denoising_queries(model: Dino, targets: Sequence[Targets]) -> DenoisingQueries | None:
    """Make the contrastive denoising queries of a batch (section 3.3); None without any object."""
    truth = [{"class_labels": t.labels, "boxes": t.boxes} for t in targets]
    content, boxes, _, about = of_whole_batch(get_contrastive_denoising_training_group)(
        truth,
        model.config.num_labels,
        model.config.num_queries,
        model.label_enc,
        model.denoising,
        LABEL_NOISE,
        BOX_NOISE,
    )
    if about is None:
        return None
    groups = about["dn_num_group"]
    most = boxes.shape[1] // (2 * groups)
    counts = torch.tensor([len(t.labels) for t in targets], device=boxes.device)
    valid = torch.arange(boxes.shape[1], device=boxes.device) % most < counts[:, None]
    objects = [
        replace(t, labels=t.labels.repeat(groups), boxes=t.boxes.repeat(groups, 1)) for t in targets
    ]
    matches = [
        (positive, torch.arange(len(positive), device=positive.device))
        for positive in about["dn_positive_idx"]
    ]
    return DenoisingQueries(Queries(content, boxes.sigmoid(), valid, groups), objects, matches)


def encode(model: Dino, images: Tensor) -> Memory:
    """Run backbone, encoder and query selection on (B, 3, H, W)."""
    return _encode(model, images)[0]


@torch.no_grad()
def label_content(model: Dino, labels: Tensor, boxes: Tensor) -> Tensor:
    """Embed class indices (B, Q) with the table of the denoising queries, (B, Q, D), detached."""
    del boxes
    table: Tensor = model.label_enc.weight
    return table[labels]


@torch.no_grad()
def place_content(model: Dino, memory: Memory, boxes: Tensor) -> Tensor:
    """Give boxes (B, Q, 4) the learned content of the model's own queries in turn, (B, Q, D)."""
    del memory
    learned: Tensor = model.tgt_embed.weight
    slots = torch.arange(boxes.shape[1], device=boxes.device) % len(learned)
    return learned[slots].expand(len(boxes), -1, -1)


def decode(model: Dino, memory: Memory, queries: Queries) -> DetrOutputs:
    """Decode external queries with every decoder layer.

    Args:
        model: The detector.
        memory: What its encoder gave.
        queries: Content of the model's own width; boxes cxcywh in [0, 1].

    Returns:
        Logits (E, B, Q, K) and boxes (E, B, Q, 4). Outputs of slots that are not valid mean
        nothing, and no other slot sees these slots; neither does a group see another group.
    """
    mask = self_attention_mask(queries)
    return _decoded(model, memory, queries.content, queries.boxes, mask)


def regions(model: Dino, memory: Memory) -> Regions:
    """Return the last layer's boxes of the model's own queries, with their embeddings."""
    return decode(model, memory, memory.own).regions()


def _decoded(
    model: Dino, memory: Memory, content: Tensor, boxes: Tensor, mask: Tensor | None = None
) -> DetrOutputs:
    outputs: DetrOutputs = model.model.decoder(
        inputs_embeds=content,
        boxes=boxes,
        encoder_hidden_states=memory.tokens,
        attention_mask=mask,
        **memory.decoder_inputs,
    )
    return outputs


def _encode(model: Dino, images: Tensor) -> tuple[Memory, Tensor, Tensor]:
    """Return the memory, and logits and boxes of the chosen cells with their gradient."""
    with decoder_call(model.model.encoder, stop=True) as call:
        model.model(pixel_values=images)
    tokens = model.model.encoder(**call).last_hidden_state
    logits, boxes = model.propose(tokens, call["spatial_shapes_list"])
    content = model.tgt_embed.weight.expand(len(tokens), -1, -1)
    memory = memory_of(tokens, content, boxes.detach(), call)
    return memory, logits, boxes


def _side_by_side(denoising: Tensor, own: int) -> Tensor:
    """Add ``own`` queries that see one another, and that no denoising query is seen by.

    Takes the mask (B, 1, N, N) of N denoising queries and gives (B, 1, N + own, N + own). Denoising
    queries see the others, which hold nothing of the truth.
    """
    count = denoising.shape[-1]
    mask = denoising.new_zeros(len(denoising), 1, count + own, count + own)
    mask[..., :count, :count] = denoising
    mask[..., count:, :count] = -torch.inf
    return mask


__all__ = [
    "PRESETS",
    "anchor_kinds",
    "build",
    "decode",
    "embedding_width",
    "encode",
    "label_content",
    "place_content",
    "predict",
    "regions",
    "training_pass",
    "width",
]
