import numpy as np
import pytest

from edgedetr.export.verify.figures import as_text, figures_from_pairs
from edgedetr.export.verify.matching import Pairs


def frame(boxes, drops, ious, unmatched=0):
    return Pairs(np.array(boxes), np.array(drops), np.array(ious), unmatched)


def test_the_figures_of_two_frames():
    """Three pairs; the 99th percentile lies 98 % of the way from the second to the third."""
    frames = [frame([1.0, 3.0], [0.1, -0.2], [0.9, 0.7], 1), frame([2.0], [0.04], [1.0])]
    found = figures_from_pairs(frames, frames=3, non_finite=5, tied_frames=1)
    assert (found.frames, found.matched, found.unmatched) == (3, 3, 1)
    assert found.unmatched_share == 0.25
    assert (found.max_box_error_px, found.min_iou) == (3, 0.7)
    assert found.p99_box_error_px == pytest.approx(2.98)
    assert found.max_score_error == 0.2
    assert found.mean_score_error == pytest.approx(0.34 / 3)
    assert found.mean_score_drop == pytest.approx(-0.06 / 3)
    assert found.max_score_drop == 0.1
    assert (found.non_finite, found.tied_frames) == (5, 1)
    assert found.summary() == (
        "3 frames: 3 matched, 1 unmatched, max box error 3 px, max score error 0.2, "
        "1 frame with tied queries"
    )


def test_without_pairs_there_are_no_errors():
    found = figures_from_pairs([], frames=2, non_finite=0)
    assert (found.matched, found.unmatched, found.unmatched_share) == (0, 0, 0)
    assert found.max_box_error_px is found.p99_box_error_px is found.max_score_error is None
    assert found.mean_score_error is found.mean_score_drop is found.max_score_drop is None
    assert found.min_iou is None
    assert found.summary() == "2 frames: 0 matched, 0 unmatched"


def test_a_figure_as_text():
    assert (as_text(0.123456), as_text(0.51049, 4), as_text(None)) == ("0.123", "0.5105", "-")
