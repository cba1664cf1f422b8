"""The teacher's own input, made of the same augmented pixels as the student's.

A picture is augmented once, in the student's frame, on pixels fine enough for both. The student's
input is that shrunk; the teacher's is the part that shows the image, resized as the teacher resizes
frames. Where both have the same size and rule, nothing is made: the teacher's mean and std are then
all that differs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torchvision.ops import box_convert

from edgedetr.distill.types import TeacherView
from edgedetr.runtime.preprocess import placement

if TYPE_CHECKING:
    from torch import Tensor

    from edgedetr.distill.types import Targets
    from edgedetr.runtime.spec import ModelSpec

MOST_FINE = 4
"""Pixels are at most so much finer than the student's input, along each side."""


@dataclass(frozen=True)
class TeacherViews:
    """Makes both inputs of augmented pictures.

    Attributes:
        teacher: The teacher's input.
        finer: How many pixels along height and width are one of the student's input.
    """

    teacher: ModelSpec
    finer: tuple[int, int]

    def fine(self, student: ModelSpec) -> ModelSpec:
        """Return the spec of the pixels that are augmented."""
        height, width = (n * k for n, k in zip(student.input_hw, self.finer, strict=True))
        return replace(student, input_hw=(height, width))

    def shrunk(self, pixels: Tensor) -> Tensor:
        """Return the student's input, uint8 (3, H, W), of the pixels that were augmented."""
        if self.finer == (1, 1):
            return pixels
        height, width = (n // k for n, k in zip(pixels.shape[1:], self.finer, strict=True))
        return _resized(pixels, (height, width))

    def view(self, pixels: Tensor, targets: Targets) -> TeacherView:
        """Return the teacher's input of the pixels that were augmented.

        Args:
            pixels: uint8 (3, H, W).
            targets: Their truth, with the size of the source image.
        """
        height, width = pixels.shape[1:]
        x0, y0, x1, y1 = 0.0, 0.0, 1.0, 1.0
        if targets.picture is not None:
            x0, y0, x1, y1 = box_convert(targets.picture, "cxcywh", "xyxy")[0].tolist()
        left, top = min(width - 1, round(x0 * width)), min(height - 1, round(y0 * height))
        right, bottom = max(left + 1, round(x1 * width)), max(top + 1, round(y1 * height))
        shown = pixels[:, top:bottom, left:right]
        place = placement(targets.source_hw or (bottom - top, right - left), self.teacher)
        taken = tuple(p / i for p, i in zip(place.placed_hw, place.input_hw, strict=True))
        seen = torch.full((3, *place.input_hw), self.teacher.pad_value, dtype=torch.uint8)
        seen[:, : place.placed_hw[0], : place.placed_hw[1]] = _resized(shown, place.placed_hw)
        scale_x, scale_y = taken[1] * width / (right - left), taken[0] * height / (bottom - top)
        shift = (-scale_x * left / width, -scale_y * top / height)
        return TeacherView(seen, torch.tensor([scale_x, scale_y, *shift]))


def teacher_views(student: ModelSpec, teacher: ModelSpec | None) -> TeacherViews | None:
    """Return what makes both inputs; None where both see the same pixels, or one is not there."""
    if teacher is None or _frame(student) == _frame(teacher):
        return None
    height, width = (
        min(MOST_FINE, max(1, -(-theirs // own)))
        for own, theirs in zip(student.input_hw, teacher.input_hw, strict=True)
    )
    return TeacherViews(teacher, (height, width))


def _frame(spec: ModelSpec) -> tuple[object, ...]:
    """Return what says where a frame's pixels lie in an input."""
    pad = spec.pad_value if spec.resize == "letterbox" else None
    return spec.input_hw, spec.resize, pad


def _resized(pixels: Tensor, hw: tuple[int, int]) -> Tensor:
    """Resize uint8 (3, H, W); what shrinks is averaged."""
    if tuple(pixels.shape[1:]) == hw:
        return pixels
    shrinks = hw[0] <= pixels.shape[1] and hw[1] <= pixels.shape[2]
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    image = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
    made = cv2.resize(image, hw[::-1], interpolation=kind)
    return torch.from_numpy(made).permute(2, 0, 1)
