from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edgedetr.distill.labels.frames import EVERY_CLASS, CheckedFrame, LabelledObject

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HW = (80, 100)


@pytest.fixture
def write_image() -> Callable[[Path], Path]:
    """Writes a grey image of 100 x 80 px, in the format of its suffix."""

    def write(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(path.suffix, np.full((*HW, 3), 90, np.uint8))[1].tobytes())
        return path

    return write


@pytest.fixture
def scenes(tmp_path: Path, write_image: Callable[[Path], Path]) -> dict[str, list[CheckedFrame]]:
    """Two training frames, the second empty, and one to validate on."""
    objects = [
        LabelledObject("car", (10, 20.5, 40, 65.25), truncation=0.5, occlusion=1),
        LabelledObject("person", (0, 0, 100, 80)),
        LabelledObject("car", (50, 5, 60, 15), is_ignored=True),
    ]
    every = [LabelledObject(EVERY_CLASS, (1, 2, 3, 4), is_ignored=True)]
    images = {name: write_image(tmp_path / "made" / f"{name}.png") for name in "abc"}
    made = {"a": objects, "b": [], "c": [*objects[:1], *every]}
    frames = {name: CheckedFrame(images[name], name, HW, rows) for name, rows in made.items()}
    return {"train": [frames["a"], frames["b"]], "val": [frames["c"]]}
