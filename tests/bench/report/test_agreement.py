from __future__ import annotations

import numpy as np
import pytest

from edgedetr.bench.report.agreement import above, agreement, pair
from edgedetr.runtime.types import Detections


def detections(*rows: tuple[tuple[float, float, float, float], int, float]) -> Detections:
    boxes, labels, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int64),
    )


A = (0.0, 0.0, 10.0, 10.0)
A_SHIFTED = (0.0, 0.0, 10.0, 8.0)  # IoU 0.8 with A
HALF = (0.0, 0.0, 10.0, 5.0)  # IoU 0.5 with A
LESS_THAN_HALF = (0.0, 0.0, 10.0, 4.9)
FAR = (50.0, 50.0, 60.0, 60.0)


@pytest.mark.parametrize(
    ("student", "wanted"),
    [
        (detections((A, 0, 0.9), (FAR, 1, 0.9)), 1.0),
        (detections((A_SHIFTED, 0, 0.4)), 2 / 3),  # one pair, 2 + 1 detections
        (detections((HALF, 0, 0.9)), 2 / 3),
        (detections((LESS_THAN_HALF, 0, 0.9)), 0.0),
        (detections((A, 1, 0.9)), 0.0),  # another class
        (detections((A, 0, 0.29), (FAR, 1, 0.9)), 2 / 3),  # below the score that counts
        (detections((A, 0, 0.9), (A, 0, 0.8), (FAR, 1, 0.9)), 4 / 5),  # found twice: one is wrong
        (detections(), 0.0),
    ],
)
def test_agreement_is_the_f1_of_both_directions(student: Detections, wanted: float) -> None:
    teacher = detections((A, 0, 0.9), (FAR, 1, 0.6), (FAR, 0, 0.1))
    assert agreement([teacher], [student]) == pytest.approx(wanted)
    assert agreement([student], [teacher]) == pytest.approx(wanted)


def test_frames_are_counted_together() -> None:
    one, none = detections((A, 0, 0.9)), detections()
    assert agreement([one, one, none], [one, none, none]) == pytest.approx(2 / 3)


def test_two_models_that_find_nothing_agree() -> None:
    assert agreement([detections()], [detections((A, 0, 0.1))]) == 1.0


def test_the_best_overlap_is_paired_first() -> None:
    ours = detections((HALF, 0, 0.9), (A, 0, 0.5))
    theirs = detections((A_SHIFTED, 0, 0.9))
    assert pair(ours, theirs) == [(1, 0)]  # IoU 0.8 beats 0.625


def test_a_score_on_the_limit_counts() -> None:
    assert len(above(detections((A, 0, 0.5), (A, 0, 0.25)), 0.5)) == 1
