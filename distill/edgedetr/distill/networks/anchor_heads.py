"""What the convolutional families share: their pyramid, their targets, ignored areas, best cells.

torchvision's modules are called one by one: its `GeneralizedRCNNTransform` would normalise and
resize once more what comes normalised and at the network's size.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou, clip_boxes_to_image

from edgedetr.distill.networks.criterion import IGNORED_SHARE, share_inside
from edgedetr.distill.networks.static_nms import taken
from edgedetr.distill.types import CellOutputs, Losses, LossTerm, Pyramid, Regions, Targets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import nn
    from typing_extensions import NotRequired

REGIONS = 300
"""How many regions an image gives at most."""

LEAST_SCORE = 1e-6
"""Scores are held this far from 0 and 1, where their logit is not finite."""


def encode(model: Any, images: Tensor) -> Pyramid:  # noqa: ANN401
    """Run backbone and pyramid on (B, 3, H, W)."""
    hw = (int(images.shape[-2]), int(images.shape[-1]))
    return Pyramid(tuple(model.backbone(images).values()), hw)


def width(model: Any) -> int:  # noqa: ANN401
    """Return the channels of the pyramid's levels."""
    return int(model.backbone.out_channels)


class TorchvisionTarget(TypedDict):
    """The truth of an image as torchvision's modules read it, and what our losses need besides.

    Attributes:
        boxes: xyxy in pixels, (G, 4).
        ignored: Areas that are neither object nor background, xyxy in pixels, (M, 4).
        labels: Class indices, int64 (G,).
        hw: Height and width of the network's input.
        neutral: Which anchors ignored areas take out of the background, bool (N,).
    """

    boxes: Tensor
    ignored: Tensor
    labels: Tensor
    hw: tuple[int, int]
    neutral: NotRequired[Tensor]


def torchvision_targets(
    targets: Sequence[Targets], hw: tuple[int, int], first_label: int = 0
) -> list[TorchvisionTarget]:
    """Write the truth as torchvision's modules read it.

    Args:
        targets: The truth of each image.
        hw: Height and width of the network's input.
        first_label: Index of the first class; 1 where 0 is the background.

    Returns:
        That of each image, as yet without ``neutral``.
    """
    return [
        {
            "boxes": in_pixels(box_convert(t.boxes, "cxcywh", "xyxy"), hw),
            "ignored": in_pixels(box_convert(t.ignored, "cxcywh", "xyxy"), hw),
            "labels": t.labels + first_label,
            "hw": hw,
        }
        for t in targets
    ]


def loss_terms(losses: Mapping[str, Tensor]) -> Losses:
    """Return torchvision's losses, by name, as terms."""
    return {LossTerm(name): value for name, value in losses.items()}


def in_pixels(boxes: Tensor, hw: tuple[int, int]) -> Tensor:
    """Scale xyxy in [0, 1] of the network's input, (..., 4), to pixels."""
    return boxes * boxes.new_tensor([hw[1], hw[0]] * 2)


def in_unit(boxes: Tensor, hw: tuple[int, int]) -> Tensor:
    """Scale xyxy in pixels, (..., 4), to [0, 1] of the network's input, clipped to it."""
    return (boxes / boxes.new_tensor([hw[1], hw[0]] * 2)).clamp(0, 1)


def neutral(boxes: Tensor, target: TorchvisionTarget, matcher: Any) -> Tensor:  # noqa: ANN401
    """Tell which boxes ignored areas take out of the background.

    Those that lie at least half inside an area, as far as they lie in the image, and those that the
    matcher would not call background if the area were an object.

    Args:
        boxes: Anchors or proposals, xyxy in pixels, (N, 4).
        target: What `torchvision_targets` gives for an image.
        matcher: torchvision's, which assigns objects to these boxes.
    """
    areas = target["ignored"]
    if not len(areas) or not len(boxes):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    seen = clip_boxes_to_image(boxes, target["hw"])
    share = share_inside(*(box_convert(x, "xyxy", "cxcywh") for x in (seen, areas)))
    matched: Tensor = matcher(box_iou(areas, boxes))
    return (share >= IGNORED_SHARE) | (matched != matcher.BELOW_LOW_THRESHOLD)  # type: ignore[no-any-return]


def sigmoid_logits(scores: Tensor) -> Tensor:
    """Return the logits whose sigmoid is scores in [0, 1], as the runtime reads them."""
    held = scores.clamp(LEAST_SCORE, 1 - LEAST_SCORE)
    return (held / (1 - held)).log()


@contextmanager
def inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what a module is called with."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        yield seen
    finally:
        handle.remove()


def chosen_cells(logits: Tensor, boxes: Tensor, count: int) -> CellOutputs:
    """Take the outputs of the ``count`` best anchors of each image, with gradient.

    Args:
        logits: Of each anchor, (B, N, K).
        boxes: What each anchor became, xyxy in [0, 1], (B, N, 4).
        count: At most so many.
    """
    best = logits.detach().amax(-1).topk(min(count, logits.shape[1])).indices
    return CellOutputs(taken(logits, best), taken(boxes, best))


def best_cells(scores: Tensor, boxes: Tensor, features: Sequence[Tensor], kinds: int) -> Regions:
    """Take the boxes of highest score as regions, with the features of their cells.

    Args:
        scores: Of each anchor, (B, N), ordered as `PyramidAnchors.on` does.
        boxes: What each anchor became, xyxy in [0, 1], (B, N, 4).
        features: One (B, D, H, W) a level.
        kinds: Anchors of a cell.
    """
    best = scores.detach().topk(min(REGIONS, scores.shape[1])).indices
    cells = torch.cat([f.flatten(2) for f in features], 2).transpose(1, 2)
    embeddings = taken(cells, torch.div(best, kinds, rounding_mode="trunc"))
    return Regions(
        boxes=tuple(taken(boxes.detach(), best)),
        embeddings=embeddings.flatten(0, 1),
        kinds=(best % kinds).flatten(),
    )
