"""COCO's average precision of boxes, computed by pycocotools.

All figures are shares in [0, 1], at most 100 detections an image. A figure for which there is no
object to find (an absent class, no small object) is NaN, and null in JSON.
"""

from __future__ import annotations

import io
import math
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edgedetr.distill.evaluation.coco_task import CocoTask, Row, read_task
from edgedetr.runtime.files import without_nan

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from edgedetr.distill.data import Truth
    from edgedetr.runtime.types import Detections

RECALL = np.linspace(0, 1, 101)
"""The recall of the points of a precision-recall curve."""


@dataclass(frozen=True, eq=False)
class CocoScores:
    """What the evaluation gives, over K classes.

    Attributes:
        class_names: The classes.
        ap: Mean over the classes and the IoU limits 0.5, 0.55, ..., 0.95.
        ap50: Mean over the classes at IoU 0.5.
        ap75: Mean over the classes at IoU 0.75.
        ap_small: ``ap`` of the objects below 32 x 32 px.
        ap_medium: ``ap`` of those between.
        ap_large: ``ap`` of those above 96 x 96 px.
        ap_by_class: ``ap`` of each class, float64 (K,).
        ap50_by_class: ``ap50`` of each class, float64 (K,).
        precision: Each class's precision at IoU 0.5 and ``RECALL``, float64 (K, 101).
    """

    class_names: tuple[str, ...]
    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ap_by_class: NDArray[np.float64]
    ap50_by_class: NDArray[np.float64]
    precision: NDArray[np.float64]

    def as_dict(self) -> dict[str, object]:
        """Return it as it is written to JSON."""
        means = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
        by_class = zip(self.ap_by_class.tolist(), self.ap50_by_class.tolist(), strict=True)
        return {
            **{name: without_nan(getattr(self, name)) for name in means},
            "per_class": {
                name: without_nan({"ap": ap, "ap50": ap50})
                for name, (ap, ap50) in zip(self.class_names, by_class, strict=True)
            },
            "curves": {
                name: {"recall": RECALL.round(2).tolist(), "precision": points.tolist()}
                for name, points in zip(self.class_names, self.precision, strict=True)
                if not np.isnan(points).any()
            },
        }


def coco_ap(
    truths: Sequence[Truth], detections: Sequence[Detections], class_names: Sequence[str]
) -> CocoScores:
    """Compare detections in memory with the labels of the same frames.

    An ignored area is a crowd of its class, or of every one: at each IoU limit, a detection that
    hits no object is neutral when at least that share of it lies in the area. So the figures are
    pycocotools' of the same boxes.

    Args:
        truths: The labels of each frame.
        detections: What was found in each frame, of the same classes.
        class_names: The classes, in the order of the labels.
    """
    num_classes = len(class_names)
    wanted: list[Row] = []
    found: list[Row] = []
    for image, (truth, detection) in enumerate(zip(truths, detections, strict=True), 1):
        wanted += _annotations(image, truth.boxes, truth.labels, iscrowd=0)
        crowds, classes = _crowds(truth, num_classes)
        wanted += _annotations(image, crowds, classes, iscrowd=1)
        rows = _annotations(image, detection.boxes, detection.labels, iscrowd=0)
        scores = detection.scores.tolist()
        found += [{**row, "score": score} for row, score in zip(rows, scores, strict=True)]
    categories = dict(enumerate(class_names, 1))
    return _scores(CocoTask(range(1, len(truths) + 1), categories, wanted, found))


def evaluate_coco(truth: str | os.PathLike[str], detections: str | os.PathLike[str]) -> CocoScores:
    """Compare a COCO result file with a COCO annotation file.

    A category that nothing uses is left out where another one has its name, as an exporter's root.

    Args:
        truth: JSON object with ``images``, ``categories`` and ``annotations``.
        detections: JSON list of ``{"image_id", "category_id", "bbox", "score"}``.

    Raises:
        DataError: If a file is missing or no JSON, an entry lacks a key or has a bad value, two
            entries share an id, or one names an image or a category that ``truth`` does not have.
    """
    return _scores(read_task(Path(truth), Path(detections)))


def _scores(task: CocoTask) -> CocoScores:
    with redirect_stdout(io.StringIO()):
        run = COCOeval(_index(task, task.truths), _index(task, task.detections), "bbox")
        run.evaluate()
        run.accumulate()
    # (IoU limit, recall, class, size, most detections): all, small, medium, large; 1, 10, 100
    precision = np.where(run.eval["precision"] < 0, np.nan, run.eval["precision"])[..., 2]
    every_size = precision[..., 0]
    return CocoScores(
        class_names=tuple(task.categories[i] for i in sorted(task.categories)),
        ap=_mean(every_size),
        ap50=_mean(every_size[0]),
        ap75=_mean(every_size[5]),
        ap_small=_mean(precision[..., 1]),
        ap_medium=_mean(precision[..., 2]),
        ap_large=_mean(precision[..., 3]),
        ap_by_class=np.array([_mean(of_class) for of_class in np.moveaxis(every_size, 2, 0)]),
        ap50_by_class=np.array([_mean(of_class) for of_class in every_size[0].T]),
        precision=every_size[0].T,
    )


def _index(task: CocoTask, rows: list[Row]) -> COCO:
    """Give annotations to pycocotools, numbered from 1: it takes a match of number 0 for none."""
    dataset: dict[str, list[Row]] = {
        "images": [{"id": i} for i in task.image_ids],
        "categories": [{"id": i, "name": name} for i, name in task.categories.items()],
        "annotations": [
            {"iscrowd": 0, "area": _area(row), **row, "id": i} for i, row in enumerate(rows, 1)
        ],
    }
    index = COCO()
    index.dataset = dataset
    index.createIndex()
    return index


def _annotations(
    image: int, boxes: NDArray[np.float32], labels: NDArray[np.int64], *, iscrowd: int
) -> list[Row]:
    corners = boxes.astype(np.float64)
    xywh = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    return [
        {"image_id": image, "category_id": label + 1, "bbox": box, "iscrowd": iscrowd}
        for label, box in zip(labels.tolist(), xywh.tolist(), strict=True)
    ]


def _crowds(truth: Truth, num_classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the ignored areas with their classes; an area of every class once for each."""
    classes = truth.ignored_by[:, None]
    rows, columns = np.nonzero((classes == np.arange(num_classes)) | (classes < 0))
    return truth.ignored[rows], columns


def _area(row: Row) -> float:
    return float(row["bbox"][2] * row["bbox"][3])


def _mean(values: NDArray[np.float64]) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else math.nan
