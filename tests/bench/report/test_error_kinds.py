"""Each error is of one kind, worked out by hand."""

import numpy as np

from edgedetr.bench.report.error_kinds import error_kinds
from edgedetr.bench.report.matches import match
from edgedetr.distill.data import Truth
from edgedetr.runtime.types import Detections

CAR, WALKER = 0, 1


def truth_of(boxes, labels):
    count = len(labels)
    return Truth(
        np.array(boxes, np.float32),
        np.array(labels),
        np.zeros(count, np.float32),
        np.zeros(count, np.int64),
        np.array([[300, 300, 400, 400]], np.float32),
    )


def test_every_error_is_of_the_kind_that_it_is():
    truth = truth_of(
        [[0, 0, 10, 10], [50, 50, 60, 60], [100, 0, 110, 10], [200, 0, 210, 10]],
        [CAR, WALKER, CAR, CAR],
    )
    boxes = [
        ([0, 0, 10, 10], CAR),  # found
        ([0, 0, 10, 9], CAR),  # once more: duplicate
        ([50, 50, 60, 60], CAR),  # a pedestrian as a car: wrong class
        ([104, 0, 116, 10], CAR),  # IoU 0.375: poor box
        ([150, 150, 160, 160], WALKER),  # background
        ([310, 310, 320, 320], CAR),  # in an ignored area: no error
    ]
    found = Detections(
        np.array([b for b, _ in boxes], np.float32),
        np.linspace(0.9, 0.4, len(boxes)).astype(np.float32),
        np.array([k for _, k in boxes]),
    )
    frames = 40  # so that four false detections are allowed
    truths = [truth, *[truth_of(np.zeros((0, 4)), np.zeros(0, np.int64))] * (frames - 1)]
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    detections = [found, *[none] * (frames - 1)]
    kinds = error_kinds(truths, detections, match(truths, detections))
    assert (kinds.found, kinds.missed) == (1, 3)
    assert kinds.duplicate == kinds.wrong_class == kinds.poor_box == kinds.background == 1
    assert kinds.score == 0


def test_a_surer_limit_leaves_fewer_errors():
    truth = truth_of([[0, 0, 10, 10]], [CAR])
    boxes = np.array([[0, 0, 10, 10], [90, 90, 99, 99]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([CAR, CAR]))
    kinds = error_kinds([truth], [found], match([truth], [found]))
    assert (kinds.found, kinds.background) == (1, 0)  # not one in ten frames is allowed
    assert 0.8 < kinds.score < 0.9
