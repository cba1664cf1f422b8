"""COCO's AP of the same detections by other evaluators, their figures and times."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedetr.distill.data import Truth
from edgedetr.distill.evaluation.coco import coco_ap
from edgedetr.runtime.types import Detections
from peers.rows import OURS, Row, missing, named, not_run, timed

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSES = ("Car", "Pedestrian", "Cyclist")
FRAME_HW = (375, 1242)


def rows(frames: int, rounds: int) -> list[Row]:
    """Compare evaluators on labels and detections of so many random frames."""
    task = f"COCO AP of {frames} frames"
    truths, found = material(frames)
    truth, detections = as_coco(truths, found)
    ways: dict[str, Callable[[], Any]] = {OURS: lambda: coco_ap(truths, found, CLASSES)}
    wanted, absent = coco_ap(truths, found, CLASSES).ap, []
    notes = {}
    for package in ("pycocotools", "faster_coco_eval"):
        if why := missing(package):
            absent.append(not_run(task, package, why))
            continue
        name = named(package.replace("_", "-"))
        ways[name] = lambda p=package: by_coco(p, truth, detections)  # type: ignore[misc]
        notes[name] = f"AP differs by {abs(by_coco(package, truth, detections) - wanted):.1e}"
    return timed(task, ways, notes, rounds) + absent


def material(frames: int) -> tuple[list[Truth], list[Detections]]:
    """Make labels, and detections that find most of them, on so many frames."""
    rng, height, width = np.random.default_rng(0), *FRAME_HW
    truths, found = [], []
    for _ in range(frames):
        count = int(rng.integers(1, 9))
        corner = rng.uniform([0, 0], [width - 200, height - 150], (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(10, 150, (count, 2))], 1)
        labels = rng.integers(0, len(CLASSES), count)
        moved = boxes + rng.normal(0, 4, boxes.shape)
        extra = rng.uniform([0, 0, 20, 20], [width - 200, height - 150, 100, 100], (6, 4))
        extra[:, 2:] += extra[:, :2]
        answers = np.concatenate([moved, extra]).clip(0).astype(np.float32)
        scores = rng.uniform(0.05, 1, len(answers)).astype(np.float32)
        kinds = np.concatenate([labels, rng.integers(0, len(CLASSES), len(extra))])
        truths.append(
            Truth(
                boxes=boxes.astype(np.float32),
                labels=labels.astype(np.int64),
                truncation=np.zeros(count, np.float32),
                occlusion=np.zeros(count, np.int64),
                ignored=np.zeros((0, 4), np.float32),
            )
        )
        order = np.argsort(-scores, kind="stable")
        found.append(Detections(answers[order], scores[order], kinds[order].astype(np.int64)))
    return truths, found


def as_coco(
    truths: list[Truth], found: list[Detections]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return labels and detections as COCO's own JSON has them."""
    images = [{"id": i, "width": FRAME_HW[1], "height": FRAME_HW[0]} for i in range(len(truths))]
    annotations: list[dict[str, Any]] = []
    for image, truth in enumerate(truths):
        for box, label in zip(_xywh(truth.boxes), truth.labels.tolist(), strict=True):
            place = {"id": len(annotations) + 1, "image_id": image, "category_id": label + 1}
            annotations.append({**place, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
    detections = [
        {"image_id": image, "category_id": label + 1, "bbox": box, "score": score}
        for image, d in enumerate(found)
        for box, score, label in zip(
            _xywh(d.boxes), d.scores.tolist(), d.labels.tolist(), strict=True
        )
    ]
    return {"images": images, "annotations": annotations, "categories": categories}, detections


def by_coco(package: str, truth: dict[str, Any], detections: list[dict[str, Any]]) -> float:
    """Return AP as ``pycocotools`` or ``faster_coco_eval`` computes it from COCO's JSON."""
    if package == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval as Evaluation
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as Evaluation
    with redirect_stdout(StringIO()):
        labels = COCO()
        labels.dataset = truth
        labels.createIndex()
        evaluation = Evaluation(labels, labels.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def _xywh(boxes: np.ndarray[Any, np.dtype[np.float32]]) -> list[list[float]]:
    size = boxes[:, 2:] - boxes[:, :2]
    made: list[list[float]] = np.concatenate([boxes[:, :2], size], 1).tolist()
    return made
