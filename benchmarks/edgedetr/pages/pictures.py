"""Put frames into a page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_WIDTH_PX = 1280
JPEG_QUALITY = 82


@dataclass(frozen=True)
class Picture:
    """A frame with its boxes drawn: its name, what it holds, and the image as a data URI."""

    name: str
    detail: str
    uri: str


def jpeg_uri(image: NDArray[np.uint8]) -> str:
    """Write an RGB image, uint8 (H, W, 3), as a data URI, no wider than `MAX_WIDTH_PX`."""
    height, width = image.shape[:2]
    if width > MAX_WIDTH_PX:
        size = (MAX_WIDTH_PX, round(height * MAX_WIDTH_PX / width))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
