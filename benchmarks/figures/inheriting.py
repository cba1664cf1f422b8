"""What a student takes over from its teacher: evenly spaced channels of each tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from edgedetr.distill.weights.inheritance import evenly_spaced
from figures.drawing import LINE, Drawing

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from figures.scene import Scene

TENSOR = "model.backbone.model.encoder.stages.2.blocks.0.layers.1.conv1.convolution.weight"
"""The convolution that is shown."""
SCALE = 4
"""Units of a weight."""
TOP = 3 * LINE + 12


def inheriting(scene: Scene) -> Drawing:
    """Draw a tensor of the teacher with what is chosen of it, and the student's."""
    theirs = scene.teacher.network.state_dict()[TENSOR].squeeze()
    mine = scene.student.network.state_dict()[TENSOR].squeeze()
    rows, columns = (_chosen(m, t) for m, t in zip(mine.shape, theirs.shape, strict=True))
    if not torch.equal(mine, theirs[rows][:, columns]):
        raise RuntimeError(f"{TENSOR} is not inherited as it is drawn")
    side = theirs.shape[0] * SCALE
    drawing = Drawing(
        "inheriting",
        "The weights of a convolution of the teacher, every second row and column marked, and the "
        "student's, which consist of these.",
        TOP + side + 30,
    )
    total = sum(p.numel() for p in scene.teacher.network.parameters())
    kept = sum(p.numel() for p in scene.student.network.parameters())
    drawing.text(0, LINE, "Weight selection", bold=True, size=14)
    drawing.lines(
        0,
        2 * LINE + 1,
        (f"One of the teacher's convolutions, {_size(theirs)}, and the student's, {_size(mine)}:",
         f"{total / 1e6:.2f} M parameters become {kept / 1e6:.2f} M."),
    )  # fmt: skip
    limit = float(theirs.abs().quantile(0.98))
    drawing.image(_shades(theirs, limit), 8, TOP + 8, side)
    marks = [(8 + SCALE * int(c), TOP, SCALE, 5) for c in columns]
    marks += [(0, TOP + 8 + SCALE * int(r), 5, SCALE) for r in rows]
    drawing.bars(marks, "blue")
    drawing.arrow(side + 16, TOP + 8 + side / 4, side + 44, TOP + 8 + side / 4)
    left = side + 52
    drawing.image(_shades(mine, limit), left, TOP + 8, mine.shape[1] * SCALE)
    drawing.lines(
        left,
        TOP + mine.shape[0] * SCALE + 30,
        ("Marked: the channels", "that are taken over.", "Nothing is averaged."),
    )
    drawing.text(left, TOP + side + 4, "red -   white 0   blue +", "soft", size=12)
    return drawing


def _chosen(wanted: int, found: int) -> Tensor:
    """Return which entries of an axis are taken over."""
    return evenly_spaced(torch.arange(found), (wanted,))


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))


def _shades(tensor: Tensor, limit: float) -> NDArray[np.uint8]:
    """Colour weights: negative red, positive blue, zero white."""
    share = (tensor.numpy() / limit).clip(-1, 1)[..., None]
    blue, red = np.array([10, 98, 196]), np.array([194, 50, 45])
    mixed = 255 + np.where(share < 0, red - 255, blue - 255) * np.abs(share)
    coloured: NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
    return coloured
