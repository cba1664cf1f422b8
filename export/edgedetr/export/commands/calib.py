"""What ``edgedetr calib`` gets of the stages above it: the data sets of every format."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def listed(root: Path, kind: str | None) -> list[Path]:
    """List the training split's images of a data set; heavy imports wait until it is called."""
    from edgedetr.distill.data import training_images

    return training_images(root, kind)
