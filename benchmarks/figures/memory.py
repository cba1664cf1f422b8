"""What CLoCKDistill's memory loss compares, cell by cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from edgedetr.distill.losses.feature_levels import PairedLevels
from edgedetr.distill.losses.foreground_mask import standardised
from figures.drawing import LINE, WIDTH, Drawing
from figures.scene import SHOWN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from figures.scene import Scene

HEAT = np.array([255.0, 110.0, 0.0])
COLD = np.array([0.0, 150.0, 255.0])


@torch.no_grad()
def memory(scene: Scene) -> Drawing:
    """Draw the weights of a level's cells, and how far the two memories are apart there."""
    torch.manual_seed(1)
    levels = PairedLevels(scene.student, scene.teacher)
    levels.fit([scene.batch])
    pair = levels(scene.batch)[0]
    counted = pair.counted[:, None]
    apart = standardised(pair.student, counted) - standardised(pair.teacher, counted)
    squared = apart.square().mean(1)[SHOWN].numpy()
    foreground = pair.foreground[SHOWN].numpy()
    height, width = foreground.shape
    pixels = scene.shown.pixels.permute(1, 2, 0).numpy()
    stride = pixels.shape[0] // height
    shape = f"{height} x {width} cells of {stride} x {stride} px"
    inside = foreground > 0
    panels = [
        (
            "1  The foreground mask",
            (f"The finest level: {shape}. Each of a box's n cells weighs 1/n,",
             "a far car as much as a near one; the background's cells share 1."),
            _over(pixels, foreground / foreground.max(), HEAT),
        ),
        (
            "2  How far the memories are apart, before the first step",
            ("Mean squared difference of the standardised channels, a student that",
             f"inherits: {squared[inside].mean():.2f} inside boxes, "
             f"{squared[~inside].mean():.2f} on the background."),
            _over(pixels, np.clip(squared / np.percentile(squared, 99), 0, 1), COLD),
        ),
    ]  # fmt: skip
    picture = WIDTH * pixels.shape[0] / pixels.shape[1]
    used = 3 * LINE + 12 + picture + 20
    drawing = Drawing(
        "memory",
        "The same scene as the networks see it, with the weight of each cell of the encoder's "
        "output, and with the difference between the student's output and the teacher's.",
        used * len(panels),
    )
    for index, (headline, lines, image) in enumerate(panels):
        top = index * used
        drawing.text(0, top + LINE, headline, bold=True, size=14)
        drawing.lines(0, top + 2 * LINE + 1, lines)
        drawing.image(image, 0, top + 3 * LINE + 12, WIDTH)
    return drawing


def _over(
    pixels: NDArray[np.uint8], heat: NDArray[np.floating], colour: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Colour an image (H, W, 3) by a grid of values in [0, 1], over its shades of grey."""
    size = (3 * pixels.shape[1], 3 * pixels.shape[0])
    grey = cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC), cv2.COLOR_RGB2GRAY)
    share = cv2.resize(heat, size, interpolation=cv2.INTER_NEAREST)[..., None] * 0.85
    mixed = (40 + grey[..., None] * 0.6) * (1 - share) + colour * share
    coloured: NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
    return coloured
