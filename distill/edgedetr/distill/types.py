"""The values that detectors, losses and methods exchange."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol

import torch
from torch import Tensor
from torchvision.ops import box_convert
from typing_extensions import TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Queries:
    """The queries of a decoder.

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
class Proposals:
    """What an encoder's cells propose as queries.

    Attributes:
        content: Projected cells, (B, P, D).
        boxes: cxcywh in [0, 1] of the network input, (B, P, 4).
    """

    content: Tensor
    boxes: Tensor


@dataclass(frozen=True, eq=False)
class Memory:
    """What the encoder of a query detector hands to its decoder.

    Attributes:
        tokens: Features of every cell of every level, (B, P, D).
        spatial_shapes: Height and width of each level, L pairs; their products add up to P.
        mask: True where a cell lies in the image, (B, P).
        own: The queries that the model chose itself.
        decoder_inputs: Further inputs of the family's decoder, the same for every image.
        frame: Where boxes of another model's input lie in this one's, see `into_frame`; those of
            ``own`` are in the other's then. None where both see the same.
        proposals: What the model chose its queries from, without gradient; None where the family
            has nothing of it to reuse, or the memory was read from a cache.
    """

    tokens: Tensor
    spatial_shapes: tuple[tuple[int, int], ...]
    mask: Tensor
    own: Queries
    decoder_inputs: Mapping[str, Any]
    frame: Tensor | None = None
    proposals: Proposals | None = None

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
        frame: Where boxes of another model's input lie in this one's, as `Memory.frame`.
    """

    levels: tuple[Tensor, ...]
    hw: tuple[int, int]
    frame: Tensor | None = None

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


Features = Memory | Pyramid
"""What a detector makes of images before its decoder or heads."""


def into_frame(boxes: Tensor, frame: Tensor | None) -> Tensor:
    """Move boxes of one model's input to where they lie in another's, kept inside it.

    Args:
        boxes: cxcywh in [0, 1], (..., B, Q, 4).
        frame: Scale and shift of x and y, (B, 4); None changes nothing.
    """
    if frame is None:
        return boxes
    scale, shift = frame[:, None, :2], frame[:, None, 2:]
    centres = (boxes[..., :2] * scale + shift).clamp(0, 1)
    return torch.cat([centres, (boxes[..., 2:] * scale).clamp(max=1)], -1)


def out_of_frame(boxes: Tensor, frame: Tensor | None) -> Tensor:
    """Move boxes back, as `into_frame` but for what it kept inside."""
    if frame is None:
        return boxes
    scale, shift = frame[:, None, :2], frame[:, None, 2:]
    return torch.cat([(boxes[..., :2] - shift) / scale, boxes[..., 2:] / scale], -1)


@dataclass(frozen=True, eq=False)
class TeacherView:
    """One augmented picture as a teacher sees it that has another input than the student.

    Attributes:
        pixels: uint8 (3, H, W) of the teacher's input, not yet normalised.
        frame: Scale and shift of x and y that take boxes of the student's input there, (4,).
    """

    pixels: Tensor
    frame: Tensor


@dataclass(frozen=True, eq=False)
class TeacherAnswer:
    """What a cache on disk holds of a teacher for one augmented picture.

    Attributes:
        key: Hash of the pixels that the teacher sees.
        item: Which picture of the split it is; empty where its pixels alone say so.
        features: What `Features.tensors` gives of the picture alone; None where it is missing.
        detections: Logits (Q, K) and boxes (Q, 4) of a picture without labels; None for others, and
            where they are missing.
    """

    key: bytes
    item: str
    features: tuple[NDArray[Any], ...] | None
    detections: tuple[NDArray[Any], ...] | None


@dataclass(frozen=True, eq=False)
class DetrOutputs:
    """The outputs of a decoder, layer by layer.

    Attributes:
        logits: Class logits, (E, B, Q, K).
        boxes: cxcywh in [0, 1] of the network input, (E, B, Q, 4).
        hidden: Embeddings that leave the last layer, (B, Q, D).
        corners: D-FINE's logits of the four edges' distributions, (E, B, Q, 4 * (bins + 1)).
        known: Indices of the classes that the model knows, see `ClassMap`; None where all.
    """

    logits: Tensor
    boxes: Tensor
    hidden: Tensor
    corners: Tensor | None = None
    known: tuple[int, ...] | None = None

    def regions(self) -> Regions:
        """Take the last layer's boxes, with their embeddings, as regions."""
        boxes = box_convert(self.boxes[-1].detach(), "cxcywh", "xyxy").clamp(0, 1)
        embeddings = self.hidden.flatten(0, 1)
        kinds = torch.zeros(len(embeddings), dtype=torch.long, device=boxes.device)
        return Regions(tuple(boxes), embeddings, kinds)


@dataclass(frozen=True, eq=False)
class Regions:
    """The boxes that a detector found in training, before suppression, and their features.

    Attributes:
        boxes: xyxy in [0, 1] of the network's input, (n, 4) an image, without gradient.
        embeddings: The feature that each box's class comes from, all images in turn, (N, C),
            with gradient.
        kinds: Index of the anchor that each box comes from at its cell, int64 (N,); 0 where a cell
            has one.
    """

    boxes: tuple[Tensor, ...]
    embeddings: Tensor
    kinds: Tensor


@dataclass(frozen=True, eq=False)
class RegionOutputs:
    """The outputs of a two-stage detector for given boxes, all images in turn.

    Attributes:
        features: What was pooled from the level that the box's size chooses, (N, D, 7, 7).
        embeddings: What leaves the shared layers of its head, (N, C).
        logits: Softmax logits of background and classes, background first, (N, 1 + K).
        deltas: Box regression for each class, (N, K, 4), in the head's own coding.
        boxes: The boxes that these deltas give, xyxy in [0, 1], (N, K, 4).
        known: Indices of the classes that the model knows, see `ClassMap`; None where all.
    """

    features: Tensor
    embeddings: Tensor
    logits: Tensor
    deltas: Tensor
    boxes: Tensor
    known: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class CellOutputs:
    """The outputs of a dense detector at some of its anchors or locations, with gradient.

    Attributes:
        logits: Of independent sigmoids, whose sigmoids are the scores, (B, n, K).
        boxes: xyxy in [0, 1], (B, n, 4).
    """

    logits: Tensor
    boxes: Tensor


class PixelChange(Protocol):
    """What augmentation does to the pixels of a picture, see `edgedetr.distill.pixel_changes`."""

    def applied(self, pixels: Tensor) -> Tensor:
        """Change one picture, uint8 (3, H, W)."""
        ...

    @staticmethod
    def together(pixels: Tensor, changes: Sequence[Any]) -> Tensor:
        """Change each of a batch, uint8 (B, 3, H, W), by one of this kind, or by None."""
        ...


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
        labelled: False for a frame without labels, which only a teacher teaches.
        source_hw: Height and width of the source image, in pixels.
        view: The same picture as the teacher sees it; None where it sees the same pixels.
        answer: What a cache holds of the teacher for it; None in training without one.
        changes: What the training device is still to do to its pixels, in turn; None for nothing.
    """

    labels: Tensor
    boxes: Tensor
    ignored: Tensor
    frame_id: str = ""
    picture: Tensor | None = None
    labelled: bool = True
    source_hw: tuple[int, int] | None = None
    view: TeacherView | None = None
    answer: TeacherAnswer | None = None
    changes: tuple[PixelChange | None, ...] = ()

    def to(self, device: torch.device) -> Targets:
        """Move the tensors."""
        view = self.view
        return replace(
            self,
            labels=self.labels.to(device),
            boxes=self.boxes.to(device),
            ignored=self.ignored.to(device),
            picture=None if self.picture is None else self.picture.to(device),
            view=view and TeacherView(view.pixels.to(device), view.frame.to(device)),
        )


Part = Literal["decoder", "encoder", "denoising"]
"""Whose predictions a loss is of: the decoder's for the model's own queries, the encoder's chosen
cells, or the decoder's for denoising queries."""


@dataclass(frozen=True)
class LossTerm:
    """One term of a detection loss: which loss it is, and of which predictions.

    Attributes:
        name: The loss, such as ``loss_giou``.
        layer: Index of the decoder layer; None for the last one, and where there are no layers.
        part: Whose predictions.
        apart: Whether a log shows the term by itself, and not in one sum with those of its name.
    """

    name: str
    layer: int | None = None
    part: Part = "decoder"
    apart: bool = False

    @property
    def log_name(self) -> str:
        """Key in a run's log; terms with the same key are added up there."""
        if not self.apart:
            return self.name
        layer = "" if self.layer is None else f"_{self.layer}"
        return f"{self.name}{layer}" + (f"_{self.part}" if self.part != "decoder" else "")


Losses = dict[LossTerm, Tensor]
"""The weighted terms of a detection loss; they are summed."""

StudentFeatures = TypeVar("StudentFeatures", bound=Features, default=Features)
TeacherFeatures = TypeVar("TeacherFeatures", bound=Features | None, default=Features)


@dataclass(frozen=True, eq=False)
class Batch(Generic[StudentFeatures, TeacherFeatures]):
    """What a method sees of one training step.

    Attributes:
        images: The student's input (B, 3, H, W).
        targets: The truth of each image.
        memory: The student's `Memory` or `Pyramid` of these images, with gradient.
        teacher_memory: The teacher's, without gradient; None for methods that need no teacher.
    """

    images: Tensor
    targets: Sequence[Targets]
    memory: StudentFeatures
    teacher_memory: TeacherFeatures
