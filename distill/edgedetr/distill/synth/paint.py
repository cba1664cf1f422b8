"""The canvas: colours and an id buffer that say which object each pixel shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Box = tuple[float, float, float, float]

SHIFT = 4
"""OpenCV draws at 1/16 pixel."""
_FAR = 30000.0


class Part(NamedTuple):
    """Filled polygons of one colour.

    Attributes:
        points: Corners in pixels, (N, 2); several polygons of N corners are (K, N, 2).
        colour: R, G, B in [0, 255].
    """

    points: NDArray[np.float64]
    colour: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Silhouette:
    """All pixels of one object inside the image, also those that nearer things hide.

    Attributes:
        x0: Left edge in pixels.
        y0: Top edge in pixels.
        mask: 255 where the object is, uint8 (h, w), cut to the object's box; (0, 0) outside.
        extent: Box of the whole object in pixels, also outside the image.
    """

    x0: int
    y0: int
    mask: NDArray[np.uint8]
    extent: Box

    def box(self) -> Box:
        """Return the corners of the visible-or-hidden pixels, right and bottom exclusive."""
        height, width = self.mask.shape
        return (self.x0, self.y0, self.x0 + width, self.y0 + height)

    def truncation(self) -> float:
        """Return the share of the object's box that lies outside the image, in [0, 1]."""
        ex0, ey0, ex1, ey1 = self.extent
        whole = (ex1 - ex0) * (ey1 - ey0)
        inside = self.mask.shape[0] * self.mask.shape[1]
        return float(np.clip(1 - inside / max(whole, 1e-9), 0, 1))


class Canvas:
    """An image uint8 (H, W, 3) RGB, and ``ids`` uint8 (H, W): 0 is scenery."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self.image = np.ascontiguousarray(image)
        self.hw = (image.shape[0], image.shape[1])
        self.ids = np.zeros(self.hw, np.uint8)

    def paint(self, parts: list[Part], object_id: int = 0) -> Silhouette:
        """Paint an object's parts in their order over everything so far."""
        corners = np.concatenate([p.points.reshape(-1, 2) for p in parts])
        ex0, ey0, ex1, ey1 = np.concatenate([corners.min(0), corners.max(0)]).tolist()
        height, width = self.hw
        x0, x1 = (min(max(int(v), 0), width) for v in (ex0 - 1, ex1 + 2))
        y0, y1 = (min(max(int(v), 0), height) for v in (ey0 - 1, ey1 + 2))
        extent = (ex0, ey0, ex1, ey1)
        if x1 <= x0 or y1 <= y0:
            return Silhouette(x0, y0, np.zeros((0, 0), np.uint8), extent)
        area = self.image[y0:y1, x0:x1]
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fixed = fixed_point(corners - (x0 + 0.5, y0 + 0.5))
        start = 0
        for points, colour in parts:
            sides = points.shape[-2]
            end = start + points.size // 2
            polygons = list(fixed[start:end].reshape(-1, sides, 2))
            cv2.fillPoly(area, polygons, colour, cv2.LINE_AA, SHIFT)
            cv2.fillPoly(mask, polygons, (255,), cv2.LINE_8, SHIFT)
            start = end
        silhouette = _cropped(mask, (x0, y0), extent)
        self._claim(silhouette, object_id)
        return silhouette

    def blend(self, sprite: NDArray[np.uint8], x0: int, y0: int) -> None:
        """Paint an RGBA picture as scenery, its top left corner at (x0, y0)."""
        height, width = self.hw
        left, top = max(x0, 0), max(y0, 0)
        right, bottom = min(x0 + sprite.shape[1], width), min(y0 + sprite.shape[0], height)
        if right <= left or bottom <= top:
            return
        part = sprite[top - y0 : bottom - y0, left - x0 : right - x0]
        area = self.image[top:bottom, left:right]
        alpha = np.ascontiguousarray(part[..., 3])
        weight = cv2.merge([alpha, alpha, alpha])
        colours = np.ascontiguousarray(part[..., :3])
        kept = cv2.multiply(area, cv2.bitwise_not(weight), scale=1 / 255)
        cv2.add(kept, cv2.multiply(colours, weight, scale=1 / 255), area)
        self.ids[top:bottom, left:right][alpha > 127] = 0

    def mottle(self, silhouette: Silhouette, rng: np.random.Generator) -> None:
        """Vary an object's brightness smoothly, as reflections and folds do."""
        height, width = silhouette.mask.shape
        if height < 4 or width < 4:
            return
        rows, columns = 5, max(2, min(12, 5 * width // height))
        coarse = rng.uniform(0.88, 1.12, (rows, columns)).astype(np.float32)
        coarse *= np.linspace(1.06, 0.92, rows, dtype=np.float32)[:, None]
        gain = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        gain[silhouette.mask == 0] = 1
        area = self.image[
            silhouette.y0 : silhouette.y0 + height, silhouette.x0 : silhouette.x0 + width
        ]
        area[...] = cv2.multiply(area, cv2.merge([gain, gain, gain]), dtype=cv2.CV_8U)

    def shown(self, silhouette: Silhouette, object_id: int) -> tuple[float, Box]:
        """Return which share of an object's pixels nothing nearer hides, and the box of these."""
        height, width = silhouette.mask.shape
        rows = slice(silhouette.y0, silhouette.y0 + height)
        columns = slice(silhouette.x0, silhouette.x0 + width)
        seen = (self.ids[rows, columns] == object_id).astype(np.uint8)
        share = int(seen.sum()) / max(int(np.count_nonzero(silhouette.mask)), 1)
        left, top, wide, high = cv2.boundingRect(seen) if share else (0, 0, 0, 0)
        x0, y0 = float(silhouette.x0 + left), float(silhouette.y0 + top)
        return share, (x0, y0, x0 + wide, y0 + high)

    def _claim(self, silhouette: Silhouette, object_id: int) -> None:
        height, width = silhouette.mask.shape
        area = self.ids[
            silhouette.y0 : silhouette.y0 + height, silhouette.x0 : silhouette.x0 + width
        ]
        area[silhouette.mask > 0] = object_id


def fixed_point(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Round pixel positions to OpenCV's fixed point, within the range that it can draw."""
    limited = np.minimum(np.maximum(points, -_FAR), _FAR)
    return np.asarray(np.rint(limited * (1 << SHIFT)), np.int32)


def _cropped(mask: NDArray[np.uint8], corner: tuple[int, int], extent: Box) -> Silhouette:
    left, top, width, height = cv2.boundingRect(mask)
    inner = mask[top : top + height, left : left + width]
    return Silhouette(corner[0] + left, corner[1] + top, inner, extent)
