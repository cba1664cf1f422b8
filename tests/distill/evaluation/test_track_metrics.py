"""The counts of a few frames, worked out by hand."""

import tracemalloc

import numpy as np
import pytest

from edgedetr.distill.evaluation.track_metrics import ALPHAS, TrackedFrame, clear, hota, identity


def frame(objects, tracks, overlap):
    shape = (len(objects), len(tracks))
    return TrackedFrame(
        np.array(objects, np.int64),
        np.array(tracks, np.int64),
        np.array(overlap, np.float64).reshape(shape),
    )


def test_hits_depend_on_the_overlap():
    """One box at 0.6: a hit up to alpha 0.6, twelve of the nineteen."""
    counts = hota([frame([0], [0], [[0.6]])])
    assert counts.hits.tolist() == [1.0] * 12 + [0.0] * 7
    assert (counts.misses + counts.hits).tolist() == [1.0] * 19
    assert counts.alarms.tolist() == counts.misses.tolist()
    assert counts.association.tolist() == counts.hits.tolist()


def test_the_longer_track_wins_the_object():
    """Track 0 follows the object three frames; in the last, track 1 overlaps it more."""
    steady = [frame([0], [0], [[0.8]]) for _ in range(3)]
    counts = hota([*steady, frame([0], [0, 1], [[0.8, 0.9]])])
    at_half = int(np.argmin(np.abs(ALPHAS - 0.5)))
    assert counts.hits[at_half] == 4
    assert counts.alarms[at_half] == 1
    assert counts.association[at_half] == pytest.approx(4)


def test_an_object_keeps_its_track_though_another_overlaps_more():
    counts = clear([frame([0], [0], [[0.8]]), frame([0], [0, 1], [[0.6, 0.9]])])
    assert (counts.hits, counts.alarms, counts.switches) == (2, 1, 0)
    assert counts.overlap == pytest.approx(1.4)


def test_a_switch_counts_over_gaps():
    gap = frame([0], [], [])
    counts = clear([frame([0], [0], [[0.8]]), gap, frame([0], [1], [[0.8]])])
    assert (counts.hits, counts.misses, counts.switches) == (2, 1, 1)
    # after an empty frame, the track of before goes on
    again = clear([frame([0], [0], [[0.8]]), gap, frame([0], [0, 1], [[0.6, 0.9]])])
    assert again.switches == 0


def test_a_track_stands_for_one_object():
    """Track 0 lies on object 0 twice and on object 1 once: the best identity has two hits."""
    frames = [frame([0], [0], [[0.8]])] * 2 + [frame([1], [0], [[0.8]])]
    counts = identity(frames)
    assert (counts.hits, counts.misses, counts.alarms) == (2, 1, 1)


def test_nothing_is_nothing():
    assert clear([]) == clear([frame([], [], [])])
    assert identity([]).hits == 0
    assert hota([]).hits.tolist() == [0.0] * 19


def test_memory_is_for_pairs_that_meet_not_for_all():
    """3000 objects, each followed by a track of its own: all pairs would be 1.4 GB."""
    frames = [frame([k], [k], [[0.7]]) for k in range(3000)]
    tracemalloc.start()
    followed, same = hota(frames), identity(frames)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20e6
    assert (same.hits, same.misses, same.alarms) == (3000, 0, 0)
    assert followed.association[0] == pytest.approx(3000)
