"""Detector families, one file each, and the values that they exchange.

A family's file has module functions and no class of its own; `DetectorModule` lists them. The one
that everything else rests on is ``decode``: it answers *external* queries (from ground truth, from
the teacher, random), which carries query-aligned distillation between any two families.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from edgedetr.runtime.plugins import find

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, device, nn


@dataclass(frozen=True, eq=False)
class Queries:
    """What a decoder is asked.

    Attributes:
        content: Embeddings (B, Q, D).
        boxes: Reference boxes, cxcywh in [0, 1] of the network input, (B, Q, 4).
        valid: False in slots that only fill up the batch, (B, Q).
        groups: Number of equal groups of slots that must not see one another.
    """

    content: Tensor
    boxes: Tensor
    valid: Tensor
    groups: int = 1


@dataclass(frozen=True, eq=False)
class Memory:
    """What the encoder hands to the decoder.

    Attributes:
        tokens: Features of every cell of every level, (B, P, D).
        spatial_shapes: Height and width of each level, L pairs; their products add up to P.
        mask: True where a cell lies in the image, (B, P).
        own: The queries that the model chose itself.
        decoder_inputs: What else the family's decoder wants, the same for every image.
    """

    tokens: Tensor
    spatial_shapes: tuple[tuple[int, int], ...]
    mask: Tensor
    own: Queries
    decoder_inputs: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class DetrOutputs:
    """What a decoder answers, layer by layer.

    Attributes:
        logits: Class logits, (E, B, Q, K).
        boxes: cxcywh in [0, 1] of the network input, (E, B, Q, 4).
    """

    logits: Tensor
    boxes: Tensor


@dataclass(frozen=True, eq=False)
class Targets:
    """The truth of one image of a batch, in the frame of the network input.

    Attributes:
        labels: Class indices, int64 (G,).
        boxes: cxcywh in [0, 1], float32 (G, 4).
        ignored: Areas that are neither object nor background, cxcywh in [0, 1], float32 (M, 4).
    """

    labels: Tensor
    boxes: Tensor
    ignored: Tensor

    def to(self, device: device) -> Targets:
        """Move the tensors."""
        return Targets(self.labels.to(device), self.boxes.to(device), self.ignored.to(device))


class DetectorModule(Protocol):
    """What a family's file must define."""

    PRESETS: Mapping[str, Any]

    def build(self, preset: str, num_classes: int) -> nn.Module:
        """Make a model with fresh weights."""
        ...

    def predict(self, model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """Detect in (B, 3, H, W): logits (B, Q, K) and boxes (B, Q, 4), cxcywh in [0, 1]."""
        ...

    def training_pass(
        self, model: nn.Module, images: Tensor, targets: Sequence[Targets]
    ) -> tuple[dict[str, Tensor], Memory]:
        """Return the family's own detection losses, weighted, and the memory they came from."""
        ...

    def encode(self, model: nn.Module, images: Tensor) -> Memory:
        """Run backbone and encoder on (B, 3, H, W)."""
        ...

    def label_content(self, model: nn.Module, labels: Tensor) -> Tensor:
        """Embed class indices (...) as query content (..., D), detached."""
        ...

    def decode(self, model: nn.Module, memory: Memory, queries: Queries) -> DetrOutputs:
        """Answer any queries, with every decoder layer."""
        ...


def detector(family: str) -> DetectorModule:
    """Return the module of a detector family."""
    return cast("DetectorModule", find(__name__, family))
