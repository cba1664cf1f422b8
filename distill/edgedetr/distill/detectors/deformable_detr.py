"""Deformable DETR (Zhu et al., 2021) from transformers.

Its presets have iterative box refinement; an imported model may do without.

The presets ``r18`` to ``r101`` are single-stage: their queries are learned, and refer to a point.
``r50-two-stage`` takes its queries from the encoder's best cells, which refer to a box. The
``edge`` presets are single-stage and ours, for small inputs and 2-core machines.

A query's content has two parts here, its position embedding and then its content proper, (B, Q,
2 D): a learned query has both, and neither follows from the other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection

from edgedetr.distill.networks.backbones import EDGE_SMALL, EDGE_TINY, R18, R50, R101
from edgedetr.distill.networks.decoder_hook import (
    decoder_call,
    inverse_sigmoid,
    self_attention_mask,
)
from edgedetr.distill.networks.deformable_detr import (
    Shape,
    config_of,
    memory_of,
    prepare,
    start_fresh,
    start_heads,
)
from edgedetr.distill.networks.focal_criterion import FocalWeights, focal_losses
from edgedetr.distill.networks.real_time_detr import anchor_kinds, embedding_width, width
from edgedetr.distill.networks.transformers_model import config_from, network_from
from edgedetr.distill.types import DetrOutputs, Losses, Memory, Queries, Regions, Targets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn
    from transformers import PreTrainedModel

PRESETS: dict[str, Shape] = {
    "edge-tiny": Shape(EDGE_TINY, 96, 192, 2, 2, 40, levels=3, heads=6),
    "edge-small": Shape(EDGE_SMALL, 128, 384, 3, 3, 60, levels=3),
    "r18": Shape(R18),
    "r50": Shape(R50),
    "r50-two-stage": Shape(R50, two_stage=True),
    "r101": Shape(R101),
}

WEIGHTS = FocalWeights(label=2.0)

SIZE_LOGIT = -2.0
"""Logit of a box's width and height before any training, where the reference is a point."""


def build(preset: str, num_classes: int) -> nn.Module:
    """Make a Deformable DETR with fresh weights."""
    network = DeformableDetrForObjectDetection(config_of(PRESETS[preset], num_classes))
    start_fresh(network.model)
    start_heads(network.class_embed, network.bbox_embed)
    if not network.config.two_stage:
        torch.nn.init.constant_(network.bbox_embed[0].layers[-1].bias[2:], SIZE_LOGIT)
    return network  # type: ignore[no-any-return]


def build_from(
    config: Mapping[str, Any], num_classes: int, tensors: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """Make the model of a ``config.json``, see `ImportableModule`."""
    values = config_from(DeformableDetrConfig, config, num_classes)
    network = network_from(DeformableDetrForObjectDetection, values, tensors)
    prepare(network.model)
    return network


def predict(model: PreTrainedModel, images: Tensor) -> tuple[Tensor, Tensor]:
    """Detect in (B, 3, H, W): logits (B, Q, K) and boxes (B, Q, 4), cxcywh in [0, 1].

    Runs no head twice and no class head that only training needs, as transformers' does.
    """
    outputs, last = model.model(pixel_values=images), model.config.decoder_layers - 1
    hidden, boxes = outputs.last_hidden_state, outputs.intermediate_reference_points[:, -1]
    if not model.config.with_box_refine:  # the references of all layers are the first ones
        boxes = _corrected(boxes, model.bbox_embed[last](hidden))
    return model.class_embed[last](hidden), boxes


def training_pass(
    model: PreTrainedModel, images: Tensor, targets: Sequence[Targets]
) -> tuple[Losses, Memory]:
    """Return the weighted losses of all decoder layers by name, and the memory they came from.

    A two-stage model's encoder cells have losses besides, whose target is whether a cell holds an
    object of any class, with the first class's logit.
    """
    with decoder_call(model.model.decoder) as captured:
        outputs = model.model(pixel_values=images)
    memory = _memory(model, captured)
    decoded = _outputs(model, captured["reference_points"], outputs)
    losses = focal_losses(WEIGHTS, decoded.logits, decoded.boxes, targets)
    if model.config.two_stage:
        objects = [replace(t, labels=torch.zeros_like(t.labels)) for t in targets]
        logits, boxes = outputs.enc_outputs_class, outputs.enc_outputs_coord_logits.sigmoid()
        losses |= focal_losses(WEIGHTS, logits[None], boxes[None], objects, part="encoder")
    return losses, memory


def encode(model: PreTrainedModel, images: Tensor) -> Memory:
    """Run backbone and encoder on (B, 3, H, W); the decoder does not run."""
    with decoder_call(model.model.decoder, stop=True) as captured:
        model(pixel_values=images)
    return _memory(model, captured)


def label_content(model: PreTrainedModel, labels: Tensor, boxes: Tensor) -> Tensor:
    """Make the content of queries (B, Q, 2 D), detached; of this family none knows a class."""
    del labels
    return _content(model, boxes)


def place_content(model: PreTrainedModel, memory: Memory, boxes: Tensor) -> Tensor:
    """Make the content of queries at boxes (B, Q, 4), (B, Q, 2 D), detached."""
    del memory
    return _content(model, boxes)


@torch.no_grad()
def _content(model: PreTrainedModel, boxes: Tensor) -> Tensor:
    """Make position embeddings and content of boxes (B, Q, 4), (B, Q, 2 D).

    A single-stage model gives those of its learned queries whose references lie nearest to the
    boxes' centres; a two-stage one derives both parts from the box, as for its own queries.
    """
    core = model.model
    if model.config.two_stage:
        embedding = core.get_proposal_pos_embed(inverse_sigmoid(boxes))
        content: Tensor = core.pos_trans_norm(core.pos_trans(embedding))
        return content
    learned = core.query_position_embeddings.weight
    references = core.reference_points(learned[:, : model.config.d_model]).sigmoid()
    nearest = (boxes[..., None, :2] - references).norm(dim=-1).argmin(-1)
    rows: Tensor = learned[nearest]
    return rows


def decode(model: PreTrainedModel, memory: Memory, queries: Queries) -> DetrOutputs:
    """Decode external queries with every decoder layer.

    Args:
        model: The detector.
        memory: What its encoder gave.
        queries: Position embeddings and content (B, Q, 2 D), as `label_content` gives them; boxes
            cxcywh in [0, 1], of which a single-stage model takes the centres alone.

    Returns:
        Logits (E, B, Q, K) and boxes (E, B, Q, 4). Outputs of slots that are not valid mean
        nothing, and no other slot sees these slots; neither does a group see another group.
    """
    position, content = queries.content.chunk(2, dim=-1)
    references = queries.boxes if model.config.two_stage else queries.boxes[..., :2]
    outputs = model.model.decoder(
        **memory.decoder_inputs,
        encoder_hidden_states=memory.tokens,
        valid_ratios=memory.tokens.new_ones(1, len(memory.spatial_shapes), 2),
        inputs_embeds=content,
        object_queries_position_embeddings=position,
        reference_points=references,
        attention_mask=self_attention_mask(queries),
    )
    return _outputs(model, references, outputs)


def regions(model: PreTrainedModel, memory: Memory) -> Regions:
    """Return the last layer's boxes of the model's own queries, with their embeddings."""
    return decode(model, memory, memory.own).regions()


def _outputs(model: PreTrainedModel, references: Tensor, outputs: Any) -> DetrOutputs:  # noqa: ANN401
    """Run the heads on every layer's embeddings.

    Each layer corrects the box of the layer before, which gets no gradient for it; the first
    corrects the references, points (B, Q, 2) or boxes (B, Q, 4).
    """
    before = [references, *outputs.intermediate_reference_points.unbind(1)]
    logits, boxes = [], []
    for layer, hidden in enumerate(outputs.intermediate_hidden_states.unbind(1)):
        logits.append(model.class_embed[layer](hidden))
        boxes.append(_corrected(before[layer], model.bbox_embed[layer](hidden)))
    return DetrOutputs(torch.stack(logits), torch.stack(boxes), outputs.last_hidden_state)


def _corrected(references: Tensor, correction: Tensor) -> Tensor:
    """Correct points (B, Q, 2) or boxes (B, Q, 4) by the logits of a box head, (B, Q, 4)."""
    start = inverse_sigmoid(references)
    return (correction + F.pad(start, (0, 4 - start.shape[-1]))).sigmoid()


def _memory(model: PreTrainedModel, captured: dict[str, Any]) -> Memory:
    """Sort a captured call of the decoder."""
    parts = (captured["object_queries_position_embeddings"], captured["inputs_embeds"])
    boxes = captured["reference_points"]
    if not model.config.two_stage:
        size = boxes.new_full((), SIZE_LOGIT).sigmoid()
        boxes = torch.cat([boxes, size.expand_as(boxes)], dim=-1)
    return memory_of(captured["encoder_hidden_states"], torch.cat(parts, dim=-1), boxes, captured)


__all__ = [
    "PRESETS",
    "anchor_kinds",
    "build",
    "build_from",
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
