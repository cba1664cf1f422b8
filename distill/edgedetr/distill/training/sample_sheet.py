"""One picture of what a run trains on: augmented samples with their boxes and ignored areas."""

from __future__ import annotations

from itertools import chain, count, islice
from typing import TYPE_CHECKING

import cv2
import numpy as np
from torchvision.ops import box_convert

from edgedetr.distill.training.loader import Loading, training_loader
from edgedetr.runtime.draw import class_colour
from edgedetr.runtime.files import atomic_path
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from edgedetr.distill.config import DistillConfig
    from edgedetr.distill.data import Dataset
    from edgedetr.distill.picture import Picture

SAMPLES = 16
COLUMNS = 4
WIDEST_PX = 640
"""Width of one sample on the sheet, at most."""

GREY = (128, 128, 128)
WHITE = (255, 255, 255)


def draw_samples(config: DistillConfig, split: Dataset, path: Path) -> None:
    """Draw the first samples of a run, in the order in which it trains on them, to a PNG file.

    A box has the colour of its class, an ignored area a white cross.

    Args:
        config: Of the run.
        split: To train on.
        path: Where to write the sheet.

    Raises:
        DataError: If an image cannot be read.
    """
    student = config.student
    spec = ModelSpec(student.input_hw, config.data.classes, resize=student.resize)
    views = Loading(config.teacher_cache.views_in_use)
    loader = training_loader(config.data, config.schedule, split, spec, loading=views)
    samples = chain.from_iterable(loader.pictures(epoch) for epoch in count())
    cells = [drawn(picture, config.data.classes) for picture in islice(samples, SAMPLES)]
    rows, columns = (max(cell.shape[axis] for cell in cells) for axis in (0, 1))
    sheet = np.zeros((rows * SAMPLES // COLUMNS, columns * COLUMNS, 3), np.uint8)
    for number, cell in enumerate(cells):
        top, left = number // COLUMNS * rows, number % COLUMNS * columns
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    _, png = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    with atomic_path(path) as temporary:
        temporary.write_bytes(png.tobytes())


def drawn(picture: Picture, class_names: Sequence[str]) -> NDArray[np.uint8]:
    """Return a sample as an RGB image (H, W, 3) with its truth drawn on it."""
    image = np.ascontiguousarray(picture.pixels.numpy().transpose(1, 2, 0))
    scale = min(1.0, WIDEST_PX / image.shape[1])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    hw = image.shape[:2]
    for x0, y0, x1, y1 in _corners(picture.targets.ignored, hw):
        cv2.rectangle(image, (x0, y0), (x1, y1), WHITE, 1)
        cv2.line(image, (x0, y0), (x1, y1), WHITE, 1)
        cv2.line(image, (x0, y1), (x1, y0), WHITE, 1)
    boxes = _corners(picture.targets.boxes, hw)
    for (x0, y0, x1, y1), label in zip(boxes, picture.targets.labels.tolist(), strict=True):
        colour = class_colour(label)
        cv2.rectangle(image, (x0, y0), (x1, y1), colour, 1)
        corner = x0, max(10, y0 - 2)
        cv2.putText(image, class_names[label], corner, cv2.FONT_HERSHEY_SIMPLEX, 0.35, colour, 1)
    framed = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=GREY)
    return framed.astype(np.uint8, copy=False)


def _corners(boxes: Tensor, hw: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    height, width = hw
    corners = box_convert(boxes, "cxcywh", "xyxy").numpy() * [width, height, width, height]
    pixels = np.rint(corners).astype(int) - [0, 0, 1, 1]
    return [(int(x0), int(y0), int(x1), int(y1)) for x0, y0, x1, y1 in pixels]
