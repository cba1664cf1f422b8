"""Which queries student and teacher decode alike, on a rendered frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from edgedetr.distill.losses.distillation_points import (
    random_queries,
    shared_outputs,
    target_queries,
    teacher_queries,
)
from edgedetr.runtime.postprocess import postprocess
from figures.drawing import LINE, WIDTH, Drawing
from figures.scene import SHOWN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from figures.scene import Scene

RANDOM = 40
"""Random queries that are drawn."""
THRESHOLD = 0.3


@dataclass(frozen=True, eq=False)
class Panel:
    """The frame with boxes: a headline, lines below it, and boxes in pixels by their colour."""

    headline: str
    lines: tuple[str, ...]
    boxes: tuple[tuple[str, NDArray[np.float32], float], ...]


@torch.no_grad()
def points(scene: Scene) -> Drawing:
    """Draw the targets, the teacher's queries, random ones, and what becomes of the targets."""
    height, width = scene.image.shape[:2]
    panels = _panels(scene)
    picture = WIDTH * height / width
    heights = [LINE * (1 + len(panel.lines)) + 12 + picture + 20 for panel in panels]
    drawing = Drawing(
        "points",
        "A rendered road scene four times: with its labels and the teacher's detections, with the "
        "queries that the teacher chose, with random queries, and with the boxes that both models "
        "make of the same queries.",
        sum(heights),
    )
    top = 0.0
    for panel, used in zip(panels, heights, strict=True):
        drawing.text(0, top + LINE, panel.headline, bold=True, size=14)
        drawing.lines(0, top + 2 * LINE + 1, panel.lines)
        place = top + LINE * (1 + len(panel.lines)) + 12
        drawing.image(scene.image, 0, place, WIDTH)
        for colour, boxes, stroke in panel.boxes:
            drawing.boxes(boxes * WIDTH / width + [0, place, 0, place], colour, stroke=stroke)
        top += used
    return drawing


def _panels(scene: Scene) -> list[Panel]:
    batch = scene.batch
    targets = target_queries(batch.targets)
    torch.manual_seed(1)
    drawn = random_queries(batch.teacher_memory, batch.targets, RANDOM)
    own = teacher_queries(batch.teacher_memory)
    (decoded,) = shared_outputs([targets], scene.student, scene.teacher, batch)
    count = int(targets.valid[SHOWN].sum())
    truth = scene.corners(targets.boxes[SHOWN][:count])
    mine, theirs = (
        scene.corners(o.boxes[-1][SHOWN][:count]) for o in (decoded.student, decoded.teacher)
    )
    return [
        Panel(
            f"1  {count} targets (green) and the teacher's detections (orange)",
            ("A target is a labelled object; its query has the object's box and class.",),
            (("truth", truth, 4.0), ("teacher", _detected(scene), 1.5)),
        ),
        Panel(
            f"2  The {own.boxes.shape[1]} queries that the teacher chose itself",
            ("The places where it looked: kd_detr always, clock on request.",),
            (("teacher", scene.corners(own.boxes[SHOWN]), 0.6),),
        ),
        Panel(
            f"3  {RANDOM} random queries",
            ("Half near objects, half anywhere in the sizes of objects; new at each step.",),
            (("student", scene.corners(drawn.boxes[SHOWN]), 0.8),),
        ),
        Panel(
            "4  What both models make of the targets' queries",
            ("Query by query, box and class of the student (blue) are pulled to the",
             "teacher's (orange); here before the first step of a student that inherits."),
            (("teacher", theirs, 2.0), ("student", mine, 2.0)),
        ),
    ]  # fmt: skip


def _detected(scene: Scene) -> NDArray[np.float32]:
    logits, boxes = scene.teacher.predict(scene.batch.images)
    place, spec = scene.shown.place, scene.teacher.spec
    return postprocess(logits[SHOWN].numpy(), boxes[SHOWN].numpy(), place, spec, THRESHOLD).boxes
