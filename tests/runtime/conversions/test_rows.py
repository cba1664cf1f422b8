"""Detections from rows of any origin."""

import pytest

from edgedetr.runtime.conversions.rows import detections_of, label_of
from edgedetr.runtime.errors import DataError


def test_the_best_is_first_and_equal_scores_keep_their_order():
    rows = [((0, 0, 1, 1), 0.25, 5), ((0, 0, 2, 2), 0.75, 6), ((0, 0, 3, 3), 0.25, 7)]
    made = detections_of(rows)
    assert made.labels.tolist() == [6, 5, 7]
    assert made.scores.tolist() == [0.75, 0.25, 0.25]
    assert made.boxes[0].tolist() == [0, 0, 2, 2]
    assert detections_of([]).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (((0, 0, float("inf"), 1), 0.5, 0), "a box is not finite"),
        (((0, 0, 1, 1), float("nan"), 0), "a score is not in 0 to 1"),
        (((0, 0, 1, 1), 0.5, -1), "a label is negative"),
    ],
)
def test_what_is_no_detection(row, message):
    with pytest.raises(DataError, match=message):
        detections_of([row])


def test_a_class_that_is_not_there_names_the_nearest(names):
    assert label_of("traffic light", names) == 1
    with pytest.raises(DataError, match="no class 'trafic light' among the model's; did you mean"):
        label_of("trafic light", names)
