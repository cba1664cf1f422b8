import numpy as np
import pytest

from edgedetr.export.verify.limits import Limits
from edgedetr.export.verify.matching import Rule, match
from edgedetr.runtime.types import Detections


def found(*rows):
    """Detections from (x0, y0, x1, y1, score, label)."""
    table = np.array(rows, float).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(int)
    )


def pairs(a, b, **rule):
    return match(found(*a), found(*b), Rule(**rule), max_detections=100)


CAR = (0, 0, 10, 10, 0.9, 0)
MAN = (20, 0, 30, 10, 0.8, 1)


def test_the_same_detections_are_pairs_without_error():
    done = pairs([CAR, MAN], [CAR, MAN])
    assert (len(done), done.unmatched) == (2, 0)
    assert (done.box_errors_px == 0).all()
    assert (done.score_errors == 0).all()
    assert (done.ious == 1).all()


def test_the_errors_of_a_pair():
    done = pairs([CAR], [(1, 0, 10, 8, 0.7, 0)])
    assert done.box_errors_px == pytest.approx([2])  # the lower side moved by 2, the left one by 1
    assert done.score_errors == pytest.approx([0.2])
    assert done.ious == pytest.approx([0.72])


@pytest.mark.parametrize(
    ("other", "unmatched"),
    [
        ((0, 0, 10, 10, 0.9, 1), 2),  # another class
        ((6, 0, 16, 10, 0.9, 0), 2),  # IoU 40 / 160
        ((0, 0, 10, 5.1, 0.9, 0), 0),  # IoU 51 / 100
        ((0, 0, 10, 4.9, 0.9, 0), 2),
        ((0, 0, 10, 10, 0.05, 0), 0),  # given, so it may be a match, whatever its score
    ],
)
def test_a_pair_has_one_class_and_overlaps_by_half(other, unmatched):
    done = pairs([CAR], [other])
    assert done.unmatched == unmatched
    assert len(done) == (unmatched == 0)


def test_a_weak_detection_is_not_lost():
    weak = (50, 0, 60, 10, 0.29, 0)
    assert pairs([CAR, weak], [CAR]).unmatched == 0
    assert pairs([CAR], [CAR, weak]).unmatched == 0
    assert len(pairs([CAR, weak], [CAR, weak])) == 1  # two weak ones are no pair
    assert len(pairs([CAR, weak], [CAR, (50, 0, 60, 10, 0.31, 0)])) == 2


def test_the_threshold_is_part_of_what_counts():
    assert pairs([(0, 0, 10, 10, 0.3, 0)], [], threshold=np.float32(0.3)).unmatched == 1
    assert pairs([CAR], [], threshold=0.95).unmatched == 0


def test_only_the_best_need_a_match():
    assert pairs([CAR, MAN], [], top=1).unmatched == 1
    # the man is not among A's best one, but he is B's best one, so he is looked for
    assert len(pairs([CAR, MAN], [MAN, CAR], top=1)) == 2
    assert match(found(CAR, MAN), found(), Rule(), max_detections=1).unmatched == 1


def test_equal_boxes_are_distinguished_by_their_scores():
    strong, weak = (0, 0, 10, 10, 0.9, 0), (0, 0, 10, 10, 0.5, 0)
    done = pairs([strong, weak], [weak, strong])
    assert done.score_errors == pytest.approx([0, 0])
    done = pairs([strong, weak], [(0, 0, 10, 10, 0.89, 0), (0, 0, 10, 10, 0.52, 0)])
    assert sorted(done.score_errors) == pytest.approx([0.01, 0.02])


def test_one_box_has_one_match():
    done = pairs([CAR, CAR], [CAR])
    assert (len(done), done.unmatched) == (1, 1)


@pytest.mark.parametrize(
    ("limits", "lost"),
    [
        (Limits(0.0, 1.0, 0.1), 1),  # the man has no match
        (Limits(0.72, 0.21, 0.1, box_error_px=2), 1),
        (Limits(0.73, 0.21, 0.1), 2),
        (Limits(0.0, 0.19, 0.1), 2),
        (Limits(0.0, 1.0, 0.1, box_error_px=1.9), 2),
    ],
)
def test_lost_is_what_has_no_match_within_the_limits(limits, lost):
    """Of three pairs one overlaps by 72 %, with a side moved by 2 and a score less by 0.2."""
    far = (60, 0, 70, 10, 0.9, 0)
    done = pairs(
        [CAR, MAN, far, (40, 0, 50, 10, 0.9, 1)],
        [(1, 0, 10, 8, 0.7, 0), far, (40, 0, 50, 10, 0.9, 1)],
    )
    assert (len(done), done.unmatched, done.compared) == (3, 1, 4)
    assert done.lost(limits) == lost


def test_the_best_may_count_whatever_their_score():
    weak, weaker = (50, 0, 60, 10, 0.1, 0), (70, 0, 80, 10, 0.05, 0)
    assert pairs([CAR, weak, weaker], [CAR], least=2).unmatched == 1
    assert pairs([CAR, weak, weaker], [CAR], least=3).unmatched == 2
    assert pairs([CAR, weak], [], least=5, top=1).unmatched == 1


def test_nothing_matches_nothing():
    done = pairs([], [])
    assert (len(done), done.unmatched) == (0, 0)
    assert pairs([], [CAR, MAN]).unmatched == 2


@pytest.mark.parametrize("seed", range(5))
def test_order_is_nothing(seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 50, (60, 2))
    rows = np.column_stack(
        [corner, corner + rng.uniform(5, 40, (60, 2)), rng.random(60), rng.integers(0, 2, 60)]
    )
    done = pairs(rows, rng.permutation(rows), threshold=0.3)
    assert len(done) == (rows[:, 4] >= 0.3).sum() > 20
    assert done.unmatched == 0
    assert done.box_errors_px.max() == done.score_errors.max() == 0
