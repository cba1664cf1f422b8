"""A picture in training: pixels with the truth of each, cut, placed and joined together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.ops import box_convert

from edgedetr.distill.pixel_changes import Cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.types import PixelChange, Targets

MIN_VISIBLE = 0.3
"""An object of which a crop leaves less than this share becomes an ignored area."""

MIN_SIDE_PX = 2.0
"""So does one that is smaller than this afterwards, in pixels of what the crop is enlarged to."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image at network size, before normalisation, and its truth.

    Attributes:
        pixels: uint8 (3, H, W).
        targets: Its truth, cxcywh in [0, 1] of the pixels; of those that come about by ``changes``.
        changes: What is still to be done to the pixels, on the training device; None where that is
            done at once. None stands for nothing in it, too.
    """

    pixels: Tensor
    targets: Targets
    changes: tuple[PixelChange | None, ...] | None = None

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.pixels.shape[-2]), int(self.pixels.shape[-1])

    @property
    def content(self) -> Window:
        """Where the image lies, without the padding of a letterbox."""
        height, width = self.hw
        if self.targets.picture is None:
            return Window(0, 0, height, width)
        x0, y0, x1, y1 = box_convert(self.targets.picture, "cxcywh", "xyxy")[0].tolist()
        top, left = round(y0 * height), round(x0 * width)
        return Window(top, left, max(1, round(y1 * height) - top), max(1, round(x1 * width) - left))


def changed(picture: Picture, change: PixelChange, targets: Targets) -> Picture:
    """Change the pixels of a picture, or let that be done later.

    Args:
        picture: Before the change.
        change: What is done to its pixels.
        targets: The truth after it.
    """
    if picture.changes is None:
        return Picture(change.applied(picture.pixels), targets)
    return Picture(picture.pixels, targets, (*picture.changes, change))


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels.

    Attributes:
        top: Its first row.
        left: Its first column.
        height: Its rows.
        width: Its columns.
    """

    top: int
    left: int
    height: int
    width: int


def cropped(picture: Picture, window: Window, hw: tuple[int, int]) -> Picture:
    """Cut a window out and resize it.

    Objects of which too little is left become ignored areas; see `MIN_VISIBLE` and `MIN_SIDE_PX`.

    Args:
        picture: Holds the window.
        window: In its pixels.
        hw: Height and width of the result.
    """
    targets, (height, width) = picture.targets, picture.hw
    size = torch.tensor([width, height, width, height])
    origin = torch.tensor([window.left, window.top, window.left, window.top])
    crop = torch.tensor([window.width, window.height, window.width, window.height])

    def into_crop(boxes: Tensor) -> tuple[Tensor, Tensor]:
        whole = (box_convert(boxes, "cxcywh", "xyxy") * size - origin) / crop
        seen = whole.clamp(0, 1)
        share = _area(seen) / _area(whole).clamp(min=1e-9)
        return box_convert(seen, "xyxy", "cxcywh"), share

    boxes, share = into_crop(targets.boxes)
    ignored, _ = into_crop(targets.ignored)
    side_px = (boxes[:, 2:] * torch.tensor([hw[1], hw[0]])).amin(1)
    kept = (share >= MIN_VISIBLE) & (side_px >= MIN_SIDE_PX)
    rest = torch.cat([ignored, boxes[~kept]])
    rest = rest[rest[:, 2:].amin(1) > 0]
    return changed(
        picture,
        Cut(window.top, window.left, window.height, window.width, hw),
        replace(
            targets,
            labels=targets.labels[kept],
            boxes=boxes[kept],
            ignored=rest,
            picture=None if targets.picture is None else into_crop(targets.picture)[0],
        ),
    )


def placed(targets: Targets, window: Window, hw: tuple[int, int]) -> Targets:
    """Return the truth of a picture that becomes a window of a larger one.

    Args:
        targets: Of the picture.
        window: Where it lies in the larger one.
        hw: Height and width of the larger one.
    """
    size = torch.tensor([hw[1], hw[0], hw[1], hw[0]])
    own = torch.tensor([window.width, window.height, window.width, window.height])
    shift = torch.tensor([window.left, window.top, 0, 0])

    def moved(boxes: Tensor) -> Tensor:
        return (boxes * own + shift) / size

    return replace(
        targets,
        boxes=moved(targets.boxes),
        ignored=moved(targets.ignored),
        picture=None if targets.picture is None else moved(targets.picture),
    )


def joined(parts: Sequence[Targets], area: Tensor | None) -> Targets:
    """Return the truth of a picture that several others make up.

    Args:
        parts: Their truths, in its frame; the first is that of the frame it is made from.
        area: Where it lies, as `Targets.picture` says.
    """
    return replace(
        parts[0],
        labels=torch.cat([p.labels for p in parts]),
        boxes=torch.cat([p.boxes for p in parts]),
        ignored=torch.cat([p.ignored for p in parts]),
        frame_id=" with ".join(dict.fromkeys(p.frame_id for p in parts)),
        picture=area,
        source_hw=parts[0].source_hw if area is parts[0].picture else None,
    )


def _area(corners: Tensor) -> Tensor:
    return (corners[:, 2:] - corners[:, :2]).clamp(min=0).prod(1)
