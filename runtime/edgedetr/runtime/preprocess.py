"""Turn an image into the network's input, and boxes back: the only implementation.

Training, calibration and the vehicle all call it, so that they cannot drift apart. Every resize is
OpenCV's bit-exact bilinear one, or PIL's for models from elsewhere, and the normalisation is a
table of 256 correctly rounded values per channel, so that training machine and vehicle compute the
same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from edgedetr.runtime.antialias import AntialiasedResize
from edgedetr.runtime.boxes import clip, cxcywh_from_xyxy, xyxy_from_cxcywh

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedetr.runtime.spec import ModelSpec


class ResizeStep(NamedTuple):
    """One bilinear resize.

    Attributes:
        read_hw: Height and width that it reads, from the top left, in pixels.
        made_hw: Height and width that it makes of them, in pixels.
    """

    read_hw: tuple[int, int]
    made_hw: tuple[int, int]


@dataclass(frozen=True)
class Placement:
    """Where a source image lies in the network's input: at the top left, scaled.

    Attributes:
        source_hw: Height and width of the source image, in pixels.
        placed_hw: Height and width that it takes in the network's input, in pixels.
        input_hw: Height and width of the network's input, in pixels.
        halved: Whether a large image is halved first, as `resize_steps` says.
    """

    source_hw: tuple[int, int]
    placed_hw: tuple[int, int]
    input_hw: tuple[int, int]
    halved: bool = True

    @property
    def scale_x(self) -> float:
        """Pixels of the network's input per source pixel, across."""
        return _scale(self.source_hw[1], self.placed_hw[1], halved=self.halved)

    @property
    def scale_y(self) -> float:
        """Pixels of the network's input per source pixel, down."""
        return _scale(self.source_hw[0], self.placed_hw[0], halved=self.halved)

    def resize_steps(self) -> list[ResizeStep]:
        """Return the resizes that bring the image to its size, none where it has it.

        A bilinear resize to less than a half would skip source pixels. So a side of more than twice
        the length is halved first, which averages pairs, as often as it takes.
        """
        sides = map(_side_steps, self.source_hw, self.placed_hw)
        kept = [(side, side) for side in self.placed_hw]
        steps = [
            ResizeStep(*zip(down or kept[0], across or kept[1], strict=True))
            for down, across in zip_longest(*sides)
        ]
        return [step for step in steps if step.read_hw != step.made_hw]

    def to_input(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map boxes of the source image into the frame of the network's input.

        Where halving drops the last row or column, a box that reaches the far edge ends outside the
        placed image, by less than a pixel of the network's input.

        Args:
            boxes: Corners in source pixels, (..., 4).

        Returns:
            cxcywh as a fraction of the network's input, float32 (..., 4).
        """
        factor = self._source_px_per_input()
        return (cxcywh_from_xyxy(boxes) / factor).astype(np.float32)

    def to_source(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map the network's boxes back, clipped to the source image.

        Args:
            boxes: cxcywh as a fraction of the network's input, (..., 4).

        Returns:
            Corners in source pixels, float32 (..., 4).
        """
        corners = xyxy_from_cxcywh(boxes * self._source_px_per_input())
        return clip(corners, self.source_hw).astype(np.float32)

    def _source_px_per_input(self) -> NDArray[np.float64]:
        width = self.input_hw[1] / self.scale_x
        height = self.input_hw[0] / self.scale_y
        return np.array([width, height, width, height])


class Preprocessor:
    """Feeds images to one model; it keeps its scratch memory, so use one per thread.

    Letterboxing keeps the aspect ratio, puts the image at the top left and fills the rest with
    the spec's grey; stretching resizes both sides freely. How is `Placement.resize_steps`, or
    `AntialiasedResize` where the spec says so.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._tables = normalisation_tables(spec)
        self._spec = spec
        self._place = Placement((0, 0), (0, 0), spec.input_hw)
        self._steps: list[tuple[ResizeStep, NDArray[np.uint8]]] = []
        self._planes: list[NDArray[np.uint8]] = []
        self._antialiased: AntialiasedResize | None = None

    def __call__(self, image: NDArray[np.uint8], out: NDArray[np.float32]) -> Placement:
        """Write the network's input for one image.

        Args:
            image: RGB pixels, uint8 (H, W, 3).
            out: float32 (3, height, width) of the spec, rows contiguous; every element is written.
                It stays the caller's.

        Returns:
            Where the image lies in ``out``.

        Raises:
            ValueError: If ``out`` is of another type or size.
        """
        spec = self._spec
        if out.dtype != np.float32 or out.shape != (3, *spec.input_hw):
            wanted = (3, *spec.input_hw)
            raise ValueError(f"out must be float32 {wanted}, got {out.dtype} {out.shape}")
        height, width, _ = image.shape
        if (height, width) != self._place.source_hw:
            self._make_room(placement((height, width), spec))
        if self._antialiased:
            image = self._antialiased(image)
        for (read_hw, made_hw), made in self._steps:
            part = image[: read_hw[0], : read_hw[1]]
            cv2.resize(part, made_hw[::-1], made, interpolation=cv2.INTER_LINEAR_EXACT)
            image = made
        cv2.split(image, self._planes)
        height, width = self._place.placed_hw
        for channel, (plane, table) in enumerate(zip(self._planes, self._tables, strict=True)):
            cv2.LUT(plane, table, out[channel, :height, :width])
            out[channel, height:] = table[spec.pad_value]
            out[channel, :height, width:] = table[spec.pad_value]
        return self._place

    def _make_room(self, place: Placement) -> None:
        """Make the scratch memory for images of one size; where there is none, keep the old."""
        halving = place.resize_steps() if place.halved else []
        steps = [(s, np.empty((*s.made_hw, 3), np.uint8)) for s in halving]
        planes = [np.empty(place.placed_hw, np.uint8) for _ in range(3)]
        if not place.halved:
            self._antialiased = AntialiasedResize(place.source_hw, place.placed_hw)
        self._place, self._steps, self._planes = place, steps, planes


def normalisation_tables(spec: ModelSpec) -> list[NDArray[np.float32]]:
    """Return the network's value of each uint8 level, float32 (256,), channel by channel."""
    levels = np.arange(256) / 255
    channels = zip(spec.mean, spec.std, strict=True)
    return [((levels - mean) / std).astype(np.float32) for mean, std in channels]


def placement(source_hw: tuple[int, int], spec: ModelSpec) -> Placement:
    """Return where an image of height and width ``source_hw`` lies in a model's input."""
    halved = not spec.antialias
    if spec.resize == "stretch":
        return Placement(source_hw, spec.input_hw, spec.input_hw, halved)
    scale = min(wanted / found for wanted, found in zip(spec.input_hw, source_hw, strict=True))
    height, width = (max(1, round(side * scale)) for side in source_hw)
    return Placement(source_hw, (height, width), spec.input_hw, halved)


def _side_steps(source: int, placed: int) -> list[tuple[int, int]]:
    """Return of each resize of one side how many pixels it reads and how many it makes."""
    steps = []
    while source > 2 * placed:
        source //= 2
        steps.append((2 * source, source))
    return [*steps, (source, placed)]


def _scale(source: int, placed: int, *, halved: bool) -> float:
    """Return pixels placed per source pixel that counts: of odd sides halving drops the last."""
    halvings = len(_side_steps(source, placed)) - 1 if halved else 0
    return placed / (source >> halvings << halvings)
