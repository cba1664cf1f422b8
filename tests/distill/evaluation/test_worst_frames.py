from pathlib import Path

import numpy as np

from edgedetr.distill.data import Sample, Truth
from edgedetr.distill.evaluation.worst_frames import errors_of, worst_frames
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.types import Detections, Frame


def truth(*boxes, labels=None, ignored=()):
    n = len(boxes)
    return Truth(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels if labels is not None else [0] * n, np.int64),
        truncation=np.zeros(n, np.float32),
        occlusion=np.zeros(n, np.int64),
        ignored=np.array(ignored, np.float32).reshape(-1, 4),
    )


def detections(*rows):
    """Rows of score, label and box."""
    return Detections(
        boxes=np.array([row[2:] for row in rows], np.float32).reshape(-1, 4),
        scores=np.array([row[0] for row in rows], np.float32),
        labels=np.array([row[1] for row in rows], np.int64),
    )


def test_an_object_is_found_once_by_its_class_and_weak_detections_do_not_count():
    objects = truth((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10))
    found = detections(
        (0.9, 0, 0, 0, 10, 10),
        (0.8, 0, 0, 0, 10, 10),  # the same again
        (0.7, 1, 20, 0, 30, 10),  # another class
        (0.2, 0, 40, 0, 50, 10),  # weak
    )
    errors = errors_of(objects, found)
    assert errors.missed.tolist() == [False, True, True]
    assert errors.false.tolist() == [[0, 0, 10, 10], [20, 0, 30, 10]]
    assert errors.total == 4


def test_half_a_detection_in_an_ignored_area_is_no_false_alarm():
    objects = truth(ignored=[(0, 0, 10, 10)])
    found = detections((0.9, 0, 0, 0, 20, 10), (0.8, 0, 0, 0, 21, 10))
    assert errors_of(objects, found).false.tolist() == [[0, 0, 21, 10]]


class Frames:
    class_names: tuple[str, ...] = ("Car",)
    ids: tuple[str, ...] = ("a", "b", "c")
    paths: tuple[Path, ...] = ()
    truths: tuple[Truth, ...] = (
        truth((0, 0, 10, 10)),
        truth((0, 0, 10, 10), (20, 0, 30, 10)),
        truth(),
    )

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if self.ids[index] == "a":
            raise DataError("a.png: broke")
        return Sample(Frame(np.zeros((40, 60, 3), np.uint8)), self.truths[index])


def test_the_worst_frames_come_first_and_those_without_errors_not_at_all():
    none = detections()
    pictures = worst_frames(Frames(), [none, none, none])
    assert [(p.name, p.detail) for p in pictures] == [
        ("b", "2 missed, 0 false alarms"),
        ("a", "1 missed, 0 false alarms; a.png: broke"),
    ]
    assert pictures[0].uri.startswith("data:image/jpeg;base64,")
    assert pictures[1].uri == ""
    assert [p.name for p in worst_frames(Frames(), [none, none, none], count=1)] == ["b"]


def test_an_empty_frame_has_no_errors():
    assert errors_of(truth(), detections()).total == 0
