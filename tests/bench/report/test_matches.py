"""The matching that slices count with is COCO's."""

import numpy as np
import pytest

from edgedetr.bench.report.matches import NONE, all_objects, average_precision, match
from edgedetr.distill.data import Truth
from edgedetr.distill.evaluation.coco import coco_ap
from edgedetr.runtime.types import Detections

CLASSES = ("Car", "Pedestrian", "Cyclist")


def random_scene(random, objects, detections, areas):
    """Boxes that overlap often, so that every rule of the matching has its turn."""

    def boxes(count):
        corner = random.uniform(0, 60, (count, 2))
        return np.hstack([corner, corner + random.uniform(5, 40, (count, 2))]).astype(np.float32)

    truth = Truth(
        boxes(objects),
        random.integers(0, 3, objects),
        np.zeros(objects, np.float32),
        np.zeros(objects, np.int64),
        boxes(areas),
        random.integers(-1, 3, areas),
    )
    near = truth.boxes[random.integers(0, max(1, objects), detections)] if objects else None
    found = boxes(detections) if near is None else near + random.normal(0, 1, near.shape)
    scores = random.permutation(np.linspace(0.01, 0.99, detections)).astype(np.float32)
    return truth, Detections(found.astype(np.float32), scores, random.integers(0, 3, detections))


@pytest.mark.parametrize("seed", range(4))
def test_the_ap_of_the_matches_is_that_of_pycocotools(seed):
    random = np.random.default_rng(seed)
    scenes = [random_scene(random, o, d, a) for o, d, a in ((6, 30, 2), (0, 5, 1), (9, 150, 0))]
    truths, detections = zip(*scenes, strict=True)
    wanted = coco_ap(truths, detections, CLASSES).ap50_by_class
    objects, matches = all_objects(truths), match(truths, detections)
    for label, ap in enumerate(wanted):
        rows = (matches.label == label) & ~matches.is_neutral
        is_true = matches.found[rows] != NONE
        count = int((objects.label == label).sum())
        assert average_precision(matches.score[rows], is_true, count) == pytest.approx(ap, abs=1e-9)


def test_no_detection_matches_nothing():
    truth, none = random_scene(np.random.default_rng(0), 3, 0, 0)
    matches = match([truth], [none])
    assert len(matches.score) == 0
    assert average_precision(matches.score, matches.found != NONE, 3) == 0


def test_hand_worked_precision():
    """Hits at ranks 1 and 3 of 4 objects: precision 1 up to recall 1/4, 2/3 up to 1/2, then 0."""
    score, is_true = np.array([0.9, 0.8, 0.7]), np.array([True, False, True])
    wanted = (26 * 1 + 25 * 2 / 3) / 101
    assert average_precision(score, is_true, 4) == pytest.approx(wanted)
    assert np.isnan(average_precision(score, is_true, 0))
