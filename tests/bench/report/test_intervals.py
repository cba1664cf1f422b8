"""The paired bootstrap of AP50."""

import numpy as np
import pytest

from edgedetr.bench.report.intervals import ap50_difference, frame_draws, share_difference
from edgedetr.bench.report.matches import all_objects, average_precision, match
from edgedetr.distill.data import Truth
from edgedetr.runtime.types import Detections


def frames_of(random, count, quality):
    """Frames with three cars; each is found with that probability, and a false one is there."""
    truths, found = [], []
    for _ in range(count):
        boxes = np.array([[10 * k, 0, 10 * k + 8, 8] for k in range(3)], np.float32)
        zeros = np.zeros(3)
        truths.append(
            Truth(
                boxes,
                np.zeros(3, np.int64),
                zeros.astype(np.float32),
                zeros.astype(np.int64),
                np.zeros((0, 4), np.float32),
            )
        )
        seen = boxes[random.random(3) < quality]
        seen = np.concatenate([seen, np.array([[50, 50, 60, 60]], np.float32)])
        scores = random.uniform(0.1, 1, len(seen)).astype(np.float32)
        found.append(Detections(seen, scores, np.zeros(len(seen), np.int64)))
    return truths, found


def test_a_model_does_not_differ_from_itself():
    truths, found = frames_of(np.random.default_rng(0), 20, 0.7)
    same = match(truths, found)
    interval = ap50_difference(all_objects(truths), same, same, 20, resamples=20)
    assert (interval.difference, interval.low, interval.high) == (0, 0, 0)


def test_the_difference_is_that_of_the_two_aps_and_lies_in_its_interval():
    truths, good = frames_of(np.random.default_rng(1), 60, 0.9)
    _, poor = frames_of(np.random.default_rng(2), 60, 0.4)
    one, other = match(truths, good), match(truths, poor)
    aps = [average_precision(m.score, m.found >= 0, 180) for m in (one, other)]
    interval = ap50_difference(all_objects(truths), one, other, 60)
    assert interval.difference == pytest.approx(aps[0] - aps[1])
    assert 0 < interval.low < interval.difference < interval.high


def test_intervals_of_no_difference_hold_zero_about_as_often_as_they_claim():
    held = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        truths, one = frames_of(random, 30, 0.7)
        _, other = frames_of(random, 30, 0.7)
        pair = match(truths, one), match(truths, other)
        interval = ap50_difference(all_objects(truths), pair[0], pair[1], 30, resamples=100)
        held += interval.low <= 0 <= interval.high
    assert held >= 34  # of 40, with 95 % each: fewer has a chance of 1 in 3000


def test_frames_without_an_object_give_no_interval():
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    truths, _ = frames_of(np.random.default_rng(0), 1, 1)
    empty = Truth(
        truths[0].boxes[:0],
        truths[0].labels[:0],
        truths[0].truncation[:0],
        truths[0].occlusion[:0],
        truths[0].ignored,
    )
    matches = match([empty], [none])
    interval = ap50_difference(all_objects([empty]), matches, matches, 1, resamples=3)
    assert np.isnan([interval.difference, interval.low, interval.high]).all()


def test_a_difference_of_shares_is_paired_and_its_interval_that_of_the_frames():
    frame = np.repeat(np.arange(50), 2)
    draws = np.array(frame_draws(50), np.float64)
    assert draws.sum(1).tolist() == [50] * len(draws)
    one = np.arange(100) % 2 == 0
    same = share_difference(frame, one, one, draws)
    assert (same.difference, same.low, same.high) == (0, 0, 0)
    always = share_difference(frame, one, np.zeros(100, bool), draws)  # one of each frame's two
    assert (always.difference, always.low, always.high) == (0.5, 0.5, 0.5)
    tenth = share_difference(frame, frame < 5, np.zeros(100, bool), draws)
    # 5 of 50 frames: a binomial of 50 draws at 0.1 has 95 % within 0.02 and 0.18
    assert tenth.difference == pytest.approx(0.1)
    assert tenth.low == pytest.approx(0.02, abs=0.02)
    assert tenth.high == pytest.approx(0.18, abs=0.03)


def test_frames_without_an_object_have_no_difference():
    empty = np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0, bool)
    assert np.isnan(share_difference(*empty, np.array(frame_draws(3), np.float64)).difference)
