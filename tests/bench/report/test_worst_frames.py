"""Errors by frame, worked out by hand."""

import numpy as np

from edgedetr.bench.report.matches import NONE, Matches, Objects
from edgedetr.bench.report.worst_frames import MOST_FRAMES, frame_errors, worst_frames


def objects_of(frames):
    zeros = np.zeros(len(frames))
    label = zeros.astype(np.int64)
    return Objects(np.array(frames, np.int64), label, zeros, zeros, label, zeros)


def test_misses_and_false_detections_are_counted_by_frame():
    """Frame 0 has two cars, one of them found; frame 2 one car, found below the limit."""
    frame = np.array([0, 1, 1, 2, 2])
    matches = Matches(
        frame,
        np.zeros(5, np.int64),
        np.array([0.9, 0.8, 0.7, 0.6, 0.2]),
        np.array([0, NONE, NONE, NONE, 2]),
        np.array([False, False, True, False, False]),
        np.zeros(5, np.int64),
    )
    errors = frame_errors(objects_of([0, 0, 2]), matches, frames=10)
    assert 0.6 < errors.score < 0.7  # one false one in ten frames
    assert errors.missed.tolist() == [1, 0, 1, *[0] * 7]
    assert errors.false.tolist() == [0, 1, 0, *[0] * 7]
    names = [f"{i:06d}" for i in range(10)]
    worst = worst_frames({"teacher": errors, "student": errors}, "student", names)
    assert [w.frame for w in worst] == ["000000", "000001", "000002"]
    assert worst[1].false == {"teacher": 1, "student": 1}


def test_a_frame_without_an_error_is_not_among_the_worst():
    none = np.zeros(0, np.int64)
    nothing = Matches(none, none, np.zeros(0), none, np.zeros(0, bool), none)
    errors = frame_errors(objects_of([3] * 5 + list(range(5, 20))), nothing, frames=20)
    worst = worst_frames({"student": errors}, "student", [str(i) for i in range(20)])
    assert len(worst) == MOST_FRAMES
    assert worst[0].missed == {"student": 5}
    clean = frame_errors(objects_of([]), nothing, frames=20)
    assert worst_frames({"student": clean}, "student", [str(i) for i in range(20)]) == ()
