"""The network of DINO (Zhang et al., 2023), made of transformers' Deformable DETR modules.

Two-stage with mixed query selection: the encoder's best cells give the queries' boxes, and their
content is learned. Each decoder layer embeds the boxes anew and looks forward twice.

transformers has no closed-set DINO. Backbone, encoder, proposals and decoder layers are its
Deformable DETR's, and the position embeddings its DAB-DETR's. As in the paper's code all decoder
layers share their heads; unlike there no further norm follows the last norm of a layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import DeformableDetrModel
from transformers.models.dab_detr.modeling_dab_detr import encode_sinusoidal_position_embedding
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrDecoder,
    DeformableDetrMLPPredictionHead,
)
from typing_extensions import override

from edgedetr.distill.networks.decoder_hook import inverse_sigmoid
from edgedetr.distill.networks.deformable_detr import start_fresh, start_heads
from edgedetr.distill.types import DetrOutputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import DeformableDetrConfig


class Dino(nn.Module):
    """The network of a DINO.

    Args:
        config: transformers' configuration of a two-stage Deformable DETR.
        denoising: Pairs of denoising queries.
    """

    def __init__(self, config: DeformableDetrConfig, denoising: int) -> None:
        super().__init__()
        self.config = config
        self.denoising = denoising
        self.model = DeformableDetrModel(config)
        self.model.decoder = DinoDecoder(config)
        start_fresh(self.model)
        del self.model.pos_trans, self.model.pos_trans_norm  # mixed selection: content is learned
        self.tgt_embed = nn.Embedding(config.num_queries, config.d_model)
        self.label_enc = nn.Embedding(config.num_labels + 1, config.d_model)
        self.class_embed, self.bbox_embed = _heads(config)

    def propose(self, tokens: Tensor, shapes: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Return the class logits (B, Q, K) and boxes (B, Q, 4) of the encoder's best cells.

        Args:
            tokens: The encoder's (B, P, D).
            shapes: Height and width of each level.
        """
        padding = tokens.new_zeros(tokens.shape[:2], dtype=torch.bool)
        cells, anchors = self.model.gen_encoder_output_proposals(tokens, padding, shapes)
        logits: Tensor = self.class_embed(cells)
        best = logits.amax(-1).topk(self.config.num_queries, dim=1).indices.unsqueeze(-1)
        cells, anchors, logits = (
            x.gather(1, best.expand(-1, -1, x.shape[-1])) for x in (cells, anchors, logits)
        )
        return logits, (self.bbox_embed(cells) + anchors).sigmoid()


class DinoDecoder(DeformableDetrDecoder):  # type: ignore[misc]
    """Deformable DETR's decoder layers with embedded boxes, heads and a look forward twice."""

    def __init__(self, config: DeformableDetrConfig) -> None:
        super().__init__(config)
        width = config.d_model
        self.ref_point_head = DeformableDetrMLPPredictionHead(2 * width, width, width, 2)
        self.class_embed, self.bbox_embed = _heads(config)

    @override
    def forward(
        self,
        inputs_embeds: Tensor,
        boxes: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        **grid: Any,
    ) -> DetrOutputs:
        """Decode queries with every layer.

        A layer's box is its correction of the box before. The loss of that box trains the
        correction before as well, and no earlier one: that is the look forward twice (section 3.5).

        Args:
            inputs_embeds: Content (B, Q, D).
            boxes: References, cxcywh in [0, 1], (B, Q, 4); get no gradient.
            encoder_hidden_states: The encoder's tokens (B, P, D).
            attention_mask: What self-attention adds to its logits, (B, 1, Q, Q).
            grid: ``spatial_shapes``, ``spatial_shapes_list`` and ``level_start_index``.
        """
        hidden = inputs_embeds
        before = reference = inverse_sigmoid(boxes.detach())
        logits, refined = [], []
        for layer in self.layers:
            place = reference.sigmoid()
            embedding = encode_sinusoidal_position_embedding(place, self.config.d_model // 2)
            hidden = layer(
                hidden,
                object_queries_position_embeddings=self.ref_point_head(embedding),
                reference_points=place.unsqueeze(2),
                encoder_hidden_states=encoder_hidden_states,
                attention_mask=attention_mask,
                **grid,
            )
            correction = self.bbox_embed(hidden)
            refined.append((before + correction).sigmoid())
            logits.append(self.class_embed(hidden))
            before = reference + correction
            reference = before.detach()
        return DetrOutputs(torch.stack(logits), torch.stack(refined), hidden)


def _heads(config: DeformableDetrConfig) -> tuple[nn.Module, nn.Module]:
    """Make a class head and a box head."""
    width = config.d_model
    class_head = nn.Linear(width, config.num_labels)
    box_head = DeformableDetrMLPPredictionHead(width, width, 4, 3)
    start_heads([class_head], [box_head])
    return class_head, box_head
