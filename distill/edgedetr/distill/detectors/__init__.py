"""Detector families, one file each, and the values that they exchange.

A family's file has module functions; `DetectorModule` lists those that every family has. What else
a family can do is told by the functions that its file has:

* ``decode`` answers *external* queries (from ground truth, from the teacher, random), which carries
  query-aligned distillation between any two families that have it (`QueryDetectorModule`);
* ``answer_regions`` classifies any boxes (`RegionDetectorModule`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torchvision.ops import box_convert

from edgedetr.runtime.plugins import find

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Queries:
    """What a decoder is asked.

    Attributes:
        content: Embeddings (B, Q, D); a family may keep more than one part of width D in them.
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
    """What the encoder of a query detector hands to its decoder.

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

    @property
    def levels(self) -> tuple[Tensor, ...]:
        """The tokens as one (B, D, H, W) a level."""
        parts = torch.split(self.tokens, [h * w for h, w in self.spatial_shapes], dim=1)
        return tuple(
            p.transpose(1, 2).reshape(len(p), -1, h, w)
            for p, (h, w) in zip(parts, self.spatial_shapes, strict=True)
        )

    @property
    def masks(self) -> tuple[Tensor, ...]:
        """The mask as one (B, H, W) a level."""
        parts = torch.split(self.mask, [h * w for h, w in self.spatial_shapes], dim=1)
        return tuple(
            p.reshape(-1, h, w) for p, (h, w) in zip(parts, self.spatial_shapes, strict=True)
        )

    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that differs between images, batch first; the tokens come first."""
        return self.tokens, self.mask, self.own.content, self.own.boxes, self.own.valid

    def with_tensors(self, tensors: Sequence[Tensor]) -> Memory:
        """Give the same memory for other images, from what `tensors` gives."""
        tokens, mask, content, boxes, valid = tensors
        own = Queries(content, boxes, valid)
        return Memory(tokens, self.spatial_shapes, mask, own, self.decoder_inputs)


@dataclass(frozen=True, eq=False)
class Pyramid:
    """What the neck of a convolutional detector hands to its heads.

    Attributes:
        levels: One (B, D, H, W) a level, finest first.
        hw: Height and width of the network's input, in pixels.
    """

    levels: tuple[Tensor, ...]
    hw: tuple[int, int]

    @property
    def masks(self) -> tuple[Tensor, ...]:
        """True where a cell lies in the image, (B, H, W) a level: everywhere."""
        return tuple(level.new_ones(level[:, 0].shape, dtype=torch.bool) for level in self.levels)

    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that differs between images, batch first."""
        return self.levels

    def with_tensors(self, tensors: Sequence[Tensor]) -> Pyramid:
        """Give the same pyramid for other images, from what `tensors` gives."""
        return Pyramid(tuple(tensors), self.hw)


@dataclass(frozen=True, eq=False)
class DetrOutputs:
    """What a decoder answers, layer by layer.

    Attributes:
        logits: Class logits, (E, B, Q, K).
        boxes: cxcywh in [0, 1] of the network input, (E, B, Q, 4).
        hidden: Embeddings that leave the last layer, (B, Q, D).
        corners: D-FINE's logits of the four edges' distributions, (E, B, Q, 4 * (bins + 1)).
    """

    logits: Tensor
    boxes: Tensor
    hidden: Tensor
    corners: Tensor | None = None

    def regions(self) -> Regions:
        """Take the last layer's boxes, with their embeddings, as regions."""
        boxes = box_convert(self.boxes[-1].detach(), "cxcywh", "xyxy").clamp(0, 1)
        embeddings = self.hidden.flatten(0, 1)
        kinds = torch.zeros(len(embeddings), dtype=torch.long, device=boxes.device)
        return Regions(tuple(boxes), embeddings, kinds)


@dataclass(frozen=True, eq=False)
class Regions:
    """The boxes that a detector found in training, before suppression, and what it made them from.

    Attributes:
        boxes: xyxy in [0, 1] of the network's input, (n, 4) an image, without gradient.
        embeddings: The feature that each box's class was told from, all images in turn, (N, C),
            with gradient.
        kinds: Index of the anchor that each box comes from at its cell, int64 (N,); 0 where a cell
            has one.
    """

    boxes: tuple[Tensor, ...]
    embeddings: Tensor
    kinds: Tensor


@dataclass(frozen=True, eq=False)
class RegionAnswers:
    """What a two-stage detector says of given boxes, all images in turn.

    Attributes:
        features: What was pooled from the level that the box's size chooses, (N, D, 7, 7).
        embeddings: What leaves the shared layers of its head, (N, C).
        logits: Softmax logits of background and classes, background first, (N, 1 + K).
        deltas: Box regression for each class, (N, K, 4), in the head's own coding.
        boxes: The boxes that these deltas give, xyxy in [0, 1], (N, K, 4).
    """

    features: Tensor
    embeddings: Tensor
    logits: Tensor
    deltas: Tensor
    boxes: Tensor


@dataclass(frozen=True, eq=False)
class Targets:
    """The truth of one image of a batch, in the frame of the network input.

    Attributes:
        labels: Class indices, int64 (G,).
        boxes: cxcywh in [0, 1], float32 (G, 4).
        ignored: Areas that are neither object nor background, cxcywh in [0, 1], float32 (M, 4).
        frame_id: Which image it is, for messages.
        picture: The area that the image takes, cxcywh in [0, 1], float32 (1, 4); the rest is
            padding. None where it takes all.
    """

    labels: Tensor
    boxes: Tensor
    ignored: Tensor
    frame_id: str = ""
    picture: Tensor | None = None

    def to(self, device: torch.device) -> Targets:
        """Move the tensors."""
        return Targets(
            self.labels.to(device),
            self.boxes.to(device),
            self.ignored.to(device),
            self.frame_id,
            None if self.picture is None else self.picture.to(device),
        )


class DetectorModule(Protocol):
    """What the file of every family defines.

    Attributes:
        PRESETS: Sizes by name; what a size holds is the family's business.
    """

    PRESETS: Mapping[str, Any]

    def build(self, preset: str, num_classes: int) -> nn.Module:
        """Make a model with fresh weights and live batch norms."""
        ...

    def width(self, model: nn.Module) -> int:
        """Return the channels of the memory's or pyramid's levels."""
        ...

    def predict(self, model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """Detect in (B, 3, H, W): logits (B, Q, K) and boxes (B, Q, 4), cxcywh in [0, 1].

        Duplicates are gone, Q is fixed, and the graph is what `edgedetr export onnx` writes.
        """
        ...

    def training_pass(
        self, model: nn.Module, images: Tensor, targets: Sequence[Targets]
    ) -> tuple[dict[str, Tensor], Any]:
        """Return the family's own weighted detection losses, and the memory they came from."""
        ...

    def encode(self, model: nn.Module, images: Tensor) -> Any:  # noqa: ANN401
        """Run all but decoder or heads on (B, 3, H, W): a `Memory` or a `Pyramid`."""
        ...

    def regions(self, model: nn.Module, memory: Any) -> Regions:  # noqa: ANN401
        """Return the boxes that the model finds on its own memory or pyramid."""
        ...

    def embedding_width(self, model: nn.Module) -> int:
        """Return the channels C of a region's embedding."""
        ...

    def anchor_kinds(self, model: nn.Module) -> int:
        """Return how many anchors a cell has: what `Regions.kinds` stays below."""
        ...


class QueryDetectorModule(DetectorModule, Protocol):
    """What the file of a family of detection transformers defines besides."""

    def label_content(self, model: nn.Module, labels: Tensor, boxes: Tensor) -> Tensor:
        """Make the content of queries that stand for objects of known classes, detached.

        Args:
            model: The detector.
            labels: Class indices (B, Q).
            boxes: The queries' reference boxes, cxcywh in [0, 1], (B, Q, 4).

        Returns:
            Embeddings (B, Q, D).
        """
        ...

    def place_content(self, model: nn.Module, memory: Memory, boxes: Tensor) -> Tensor:
        """Make the content of queries of no class, as the model makes that of its own, detached.

        Args:
            model: The detector.
            memory: What its encoder gave.
            boxes: The queries' reference boxes, cxcywh in [0, 1], (B, Q, 4).

        Returns:
            Embeddings (B, Q, D).
        """
        ...

    def decode(self, model: nn.Module, memory: Memory, queries: Queries) -> DetrOutputs:
        """Answer any queries, with every decoder layer."""
        ...


class RegionDetectorModule(DetectorModule, Protocol):
    """What the file of a two-stage family defines besides."""

    def answer_regions(
        self, model: nn.Module, pyramid: Pyramid, boxes: Sequence[Tensor]
    ) -> RegionAnswers:
        """Classify and refine given boxes, xyxy in [0, 1], (n, 4) an image."""
        ...


def detector(family: str) -> DetectorModule:
    """Return the module of a detector family."""
    return cast("DetectorModule", find(__name__, family))


def answers_queries(module: DetectorModule) -> bool:
    """Tell whether a family answers external queries: whether it is a detection transformer."""
    return hasattr(module, "decode")


def answers_regions(module: DetectorModule) -> bool:
    """Tell whether a family classifies given boxes: whether it is a two-stage detector."""
    return hasattr(module, "answer_regions")
