"""What the families around RT-DETR share: one decoder call, captured and called again.

transformers' RT-DETR v1 and v2, D-FINE and DEIMv2 call their decoder with the same keywords. A hook
captures them: that is the `Memory`. ``decode`` calls the decoder once more with other queries.
Reference points are logits there; boxes are cxcywh in [0, 1] everywhere in this project.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edgedetr.distill.networks.criterion import real_time_detr_loss
from edgedetr.distill.networks.decoder_hook import (
    decoder_call,
    inverse_sigmoid,
    outputs_of,
    require_cells,
    self_attention_mask,
)
from edgedetr.distill.networks.denoising import drawn_for_whole_batch
from edgedetr.distill.networks.query_fade import query_fade
from edgedetr.distill.types import (
    DetrOutputs,
    Losses,
    Memory,
    Proposals,
    Queries,
    Regions,
    Targets,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PreTrainedModel

PAIRS_AT_ONCE = 1 << 24
"""Pairs of boxes and proposals that are compared at once, which bounds the memory that it takes."""


def prepared(model: PreTrainedModel, *, fade: bool = True) -> PreTrainedModel:
    """Give a transformers model this project's detection loss.

    It will refuse inputs with fewer cells than it has queries (`UsageError`).

    Args:
        model: Fresh, or with the weights of another library.
        fade: Whether its predictions have the `query_fade`.
    """
    model.loss_function = real_time_detr_loss
    model.query_fade = fade
    check = partial(require_cells, model.config.num_queries)
    model.model.enc_output.register_forward_pre_hook(check)
    return model


def predict(model: PreTrainedModel, images: Tensor) -> tuple[Tensor, Tensor]:
    """Detect in (B, 3, H, W): logits (B, Q, K) and boxes (B, Q, 4), cxcywh in [0, 1]."""
    with query_fade(model) if model.query_fade else nullcontext():
        outputs = model(pixel_values=images)
    return outputs.logits, outputs.pred_boxes


def training_pass(
    model: PreTrainedModel, images: Tensor, targets: Sequence[Targets]
) -> tuple[Losses, Memory]:
    """Return the model's own weighted losses, and the memory they came from."""
    labels = [{"class_labels": t.labels, "boxes": t.boxes, "ignored": t.ignored} for t in targets]
    with (
        _selection(model) as cells,
        decoder_call(model.model.decoder) as captured,
        drawn_for_whole_batch(model.model),
    ):
        outputs = model(pixel_values=images, labels=labels)
    return outputs.loss_dict, _memory(model, captured, cells)


def encode(model: PreTrainedModel, images: Tensor) -> Memory:
    """Run backbone and encoder on (B, 3, H, W); the decoder does not run."""
    with _selection(model) as cells, decoder_call(model.model.decoder, stop=True) as captured:
        model(pixel_values=images)
    return _memory(model, captured, cells)


def width(model: PreTrainedModel) -> int:
    """Return the channels of the memory."""
    return int(model.config.d_model)


def embedding_width(model: PreTrainedModel) -> int:
    """Return the channels of a region's embedding: those of the decoder."""
    return width(model)


def anchor_kinds(model: PreTrainedModel) -> int:
    """Return 1: a query has one box."""
    del model
    return 1


def label_content(model: PreTrainedModel, labels: Tensor, boxes: Tensor) -> Tensor:
    """Embed class indices (B, Q) with the table of the denoising queries, (B, Q, D), detached."""
    del boxes
    table: Tensor = model.model.denoising_class_embed.weight.detach()
    return table[labels]


@torch.no_grad()
def place_content(model: PreTrainedModel, memory: Memory, boxes: Tensor) -> Tensor:
    """Give each box (B, Q, 4) the projected encoder cell whose own proposal is nearest, (B, Q, D).

    So the model makes the content of the queries that it chooses itself: a box that a cell proposed
    gets the content of that cell. The cell under a box's centre is mostly another one. Nearest is
    the largest generalized IoU.
    """
    found = memory.proposals
    if found is None:
        core, tokens = model.model, memory.tokens
        _, inside = _anchors(model, memory.spatial_shapes, tokens)
        content = core.enc_output(inside.to(tokens.dtype) * tokens)
        found = _proposals(model, content, core.enc_bbox_head(content), memory.spatial_shapes)
    nearest = nearest_boxes(boxes, found.boxes).unsqueeze(-1)
    return found.content.gather(1, nearest.expand(-1, -1, found.content.shape[-1]))


def nearest_boxes(boxes: Tensor, others: Tensor) -> Tensor:
    """Return which of others (B, P, 4) has the largest generalized IoU with each box (B, Q, 4).

    Args:
        boxes: cxcywh in [0, 1].
        others: Likewise.

    Returns:
        Indices (B, Q).
    """
    at_once = max(1, PAIRS_AT_ONCE // max(1, boxes.shape[1] * others.shape[1]))
    pairs = zip(torch.split(boxes, at_once), torch.split(others, at_once), strict=True)
    return torch.cat([_overlap_of_all(one, other).argmax(-1) for one, other in pairs])


def decode(model: PreTrainedModel, memory: Memory, queries: Queries) -> DetrOutputs:
    """Decode external queries with every decoder layer.

    Args:
        model: The detector.
        memory: What its encoder gave.
        queries: Content of the model's own width; boxes cxcywh in [0, 1].

    Returns:
        Logits (E, B, Q, K) and boxes (E, B, Q, 4). Outputs of slots that are not valid mean
        nothing, and no other slot sees these slots; neither does a group see another group.
    """
    decoder = model.model.decoder
    with _outputs_of_every_layer(decoder):
        outputs = decoder(
            **memory.decoder_inputs,
            encoder_hidden_states=memory.tokens,
            inputs_embeds=queries.content,
            reference_points=inverse_sigmoid(queries.boxes),
            encoder_attention_mask=self_attention_mask(queries),
        )
    depth = len(decoder.layers)
    return DetrOutputs(
        logits=outputs.intermediate_logits[:, -depth:].transpose(0, 1),
        boxes=outputs.intermediate_reference_points[:, -depth:].transpose(0, 1),
        hidden=outputs.last_hidden_state,
        corners=_corners(outputs),
    )


def regions(model: PreTrainedModel, memory: Memory) -> Regions:
    """Return the last layer's boxes of the model's own queries, with their embeddings."""
    return decode(model, memory, memory.own).regions()


def _corners(outputs: Any) -> Tensor | None:  # noqa: ANN401
    """Return D-FINE's corner logits (E, B, Q, ...); other families have none."""
    corners = getattr(outputs, "intermediate_predicted_corners", None)
    return None if corners is None else corners.transpose(0, 1)


@contextmanager
def _outputs_of_every_layer(decoder: PreTrainedModel) -> Iterator[None]:
    """Let D-FINE's decoder give all layers' outputs in evaluation too; the layers do not change.

    The flag of the decoder itself guards nothing else: dropout lies in its layers.
    """
    before = decoder.training
    decoder.training = True
    try:
        yield
    finally:
        decoder.training = before


def _overlap_of_all(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the generalized IoU of all pairs of boxes (B, Q, 4) and others (B, P, 4), (B, Q, P).

    As `overlaps`, coordinate by coordinate, so that nothing larger than the result is made.
    """
    low, high, area = _sides(boxes.unsqueeze(2))
    other_low, other_high, other_area = _sides(others.unsqueeze(1))
    shared, hull = torch.ones((), device=boxes.device), torch.ones((), device=boxes.device)
    for axis in (0, 1):
        inner = torch.minimum(high[axis], other_high[axis])
        shared = inner.sub_(torch.maximum(low[axis], other_low[axis])).clamp_(min=0).mul_(shared)
        outer = torch.maximum(high[axis], other_high[axis])
        hull = outer.sub_(torch.minimum(low[axis], other_low[axis])).mul_(hull)
    union = (area + other_area).sub_(shared)
    return shared.div_(union).sub_((hull - union).div_(hull))


def _sides(boxes: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
    """Return lower and upper edges, of x and of y, and the area of boxes (..., 4)."""
    low = boxes[..., :2] - boxes[..., 2:] / 2
    high, area = low + boxes[..., 2:], boxes[..., 2] * boxes[..., 3]
    return low.unbind(-1), high.unbind(-1), area


@contextmanager
def _selection(model: PreTrainedModel) -> Iterator[list[Any]]:
    """Collect the projected cells, and then what the box head makes of them, inside the block."""
    core = model.model
    with outputs_of(core.enc_output) as cells, outputs_of(core.enc_bbox_head) as boxes:
        found: list[Any] = []
        yield found
        found += [cells[0].detach(), boxes[0].detach()]


def _proposals(
    model: PreTrainedModel, content: Tensor, offsets: Tensor, shapes: Sequence[tuple[int, int]]
) -> Proposals:
    """Return the proposals of projected cells (B, P, D) with their box offsets (B, P, 4)."""
    anchors, _ = _anchors(model, shapes, content)
    return Proposals(content, (offsets + anchors).sigmoid())


def _anchors(
    model: PreTrainedModel, shapes: Sequence[tuple[int, int]], like: Tensor
) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = model.model.generate_anchors(
        tuple(shapes), device=like.device, dtype=like.dtype
    )
    return found


def _memory(model: PreTrainedModel, captured: dict[str, Any], cells: Sequence[Tensor]) -> Memory:
    """Sort a captured call; denoising queries, which come first, are no queries of the model's.

    Args:
        model: What called its decoder.
        captured: The call.
        cells: What `_selection` collected.
    """
    rest = dict(captured)
    tokens = rest.pop("encoder_hidden_states")
    content = rest.pop("inputs_embeds")[:, -model.config.num_queries :]
    boxes = rest.pop("reference_points")[:, -model.config.num_queries :].sigmoid()
    rest.pop("encoder_attention_mask")
    shapes = tuple((int(h), int(w)) for h, w in rest["spatial_shapes_list"])
    mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool, device=tokens.device)
    projected, offsets = cells
    own, proposals = Queries(content, boxes, valid), _proposals(model, projected, offsets, shapes)
    return Memory(tokens, shapes, mask, own, rest, proposals=proposals)
