"""The results of a comparison, frame by frame."""

import numpy as np

from edgedetr.export.verify.compare import Options, verify
from edgedetr.export.verify.findings import WORST, Evidence
from edgedetr.export.verify.limits import INT8_LIMITS, Gate
from edgedetr.export.verify.matching import Pairs, Rule
from edgedetr.runtime.types import Detections

WHITE = [np.full((20, 40, 3), 255, np.uint8)]
NONE = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def test_frames_that_are_not_finite_come_first_and_are_not_matched():
    """Of five frames the worst three are kept: NaN, then an unmatched detection, then low IoU."""
    evidence = Evidence(("Car",), ("a", "b", "c", "d"))
    pair = np.ones(1)
    for iou, unmatched in ((1.0, 0), (0.9, 0), (1.0, 1)):
        evidence.add(WHITE[0], Pairs(0 * pair, 0 * pair, iou * pair, unmatched), (NONE, NONE))
    evidence.add(WHITE[0], None, (NONE, NONE), non_finite=2)
    evidence.add(WHITE[0], Pairs(0 * pair, 0 * pair, 0.95 * pair, 0), (NONE, NONE), tied=True)
    assert [frame.figures.frame for frame in evidence.worst] == ["d", "c", "b"]
    assert len(evidence.worst) == WORST
    assert evidence.frames[4].frame == "4"  # a frame without a name has its number
    figures, share = evidence.figures, evidence.share(INT8_LIMITS)
    assert (figures.frames, figures.matched, figures.unmatched) == (5, 4, 1)
    assert (figures.non_finite, figures.tied_frames, figures.min_iou) == (2, 1, 0.9)
    assert (share.lost, share.compared, share.frames) == (1, 5, 4)
    assert evidence.joined("ious").tolist() == [1.0, 0.9, 1.0, 0.95]


def test_a_drop_is_the_score_that_the_candidate_lost(tiny_onnx, tmp_path):
    a = tiny_onnx().rename(tmp_path / "a.onnx")
    b = tiny_onnx(bias=((-4.5, -9.0), (-9.0, -9.0))).rename(tmp_path / "b.onnx")
    lost = verify(a, b, WHITE, Rule(), Gate()).figures
    assert lost.max_score_drop is not None
    assert lost.max_score_drop > 0.01
    assert lost.max_score_drop == lost.max_score_error
    assert lost.mean_score_drop == lost.max_score_drop / 4  # one of four scores fell
    won = verify(b, a, WHITE, Rule(), Gate()).figures
    assert won.mean_score_drop == -lost.mean_score_drop
    assert won.max_score_drop == 0  # the scores of the other three stay


def test_the_worst_frame_is_named(tiny_onnx, tmp_path):
    a = tiny_onnx().rename(tmp_path / "a.onnx")
    b = tiny_onnx(bias=((-4.5, -9.0), (-9.0, -9.0))).rename(tmp_path / "b.onnx")
    frames = [np.full((20, 40, 3), grey, np.uint8) for grey in (255, 160, 200, 180)]
    options = Options(frame_names=("255.png", "160.png", "200.png", "180.png"))
    report = verify(a, b, frames, Rule(), Gate(), options=options)
    assert report.evidence is not None
    worst = report.evidence.worst_figures
    assert report.to_dict()["worst_frames"] == worst
    assert [frame["frame"] for frame in worst] == ["160.png", "180.png", "200.png"]
    assert report.evidence.frames[1].max_score_error > report.evidence.frames[3].max_score_error
