"""The README's picture: what the teacher of rendered scenes finds in a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from edgedetr.runtime.draw import draw_detections
from edgedetr.runtime.postprocess import postprocess
from figures.scene import SHOWN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from figures.scene import Scene

THRESHOLD = 0.4
SIZE_PX = (994, 300)


@torch.no_grad()
def result(scene: Scene) -> NDArray[np.uint8]:
    """Draw the detections, RGB (H, W, 3)."""
    spec = scene.teacher.spec
    outputs = scene.teacher.predict(scene.batch.images)
    logits, boxes = (tensor[SHOWN].numpy() for tensor in outputs)
    found = postprocess(logits, boxes, scene.shown.place, spec, THRESHOLD)
    drawn = draw_detections(scene.image, found, spec.class_names)
    return np.asarray(cv2.resize(drawn, SIZE_PX, interpolation=cv2.INTER_AREA), np.uint8)
