"""Draw detections on a picture."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.runtime.types import Detections

_GOLDEN_RATIO = 0.618034
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_detections(
    image: NDArray[np.uint8],
    detections: Detections,
    class_names: Sequence[str],
    track_ids: NDArray[np.int64] | None = None,
) -> NDArray[np.uint8]:
    """Return a copy of an RGB image with a box, class and score for every detection.

    The best detection is drawn last, on top of the others. A class has the same colour on every
    picture. The number of a detection's track stands before its class, unless it is 0.
    """
    picture = image.copy()
    scale = max(0.4, image.shape[0] / 900)
    ids = [0] * len(detections) if track_ids is None else track_ids.tolist()
    for box, score, label, number in reversed(
        list(zip(detections.boxes, detections.scores, detections.labels, ids, strict=True))
    ):
        x0, y0, x1, y1 = (round(float(side)) for side in box)
        colour = class_colour(int(label))
        cv2.rectangle(picture, (x0, y0), (x1, y1), colour, max(1, round(2 * scale)))
        name = f"#{number} {class_names[label]}" if number else class_names[label]
        _write(picture, (x0, y0), f"{name} {score:.2f}", colour, scale)
    return picture


def class_colour(label: int) -> tuple[int, int, int]:
    """Return the RGB colour of a class: bright, and far from that of its neighbours.

    Steps of the golden ratio around the hue circle never come close to an earlier hue soon.
    """
    red, green, blue = colorsys.hsv_to_rgb((0.33 + label * _GOLDEN_RATIO) % 1, 0.85, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def _write(
    picture: NDArray[np.uint8],
    corner: tuple[int, int],
    text: str,
    colour: tuple[int, int, int],
    scale: float,
) -> None:
    """Write on a filled plate above the corner, or below it where the picture ends."""
    thickness = max(1, round(1.5 * scale))
    (width, height), below = cv2.getTextSize(text, _FONT, scale, thickness)
    x = max(0, min(corner[0], picture.shape[1] - width))
    bottom = corner[1] if corner[1] >= height + below else corner[1] + height + below
    cv2.rectangle(picture, (x, bottom - height - below), (x + width, bottom), colour, cv2.FILLED)
    luminance = np.dot(colour, (0.299, 0.587, 0.114))
    ink = (0, 0, 0) if luminance > 128 else (255, 255, 255)
    cv2.putText(
        picture, text, (x, bottom - below // 2 - 1), _FONT, scale, ink, thickness, cv2.LINE_AA
    )
