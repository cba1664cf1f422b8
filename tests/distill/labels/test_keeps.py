from collections import Counter
from pathlib import Path

import pytest

from edgedetr.distill.labels.frames import EVERY_CLASS, CheckedFrame, LabelledObject
from edgedetr.distill.labels.keeps import Keeps, fitted

BOX = (10.0, 20.0, 40.0, 65.0)
CAR = LabelledObject("car", BOX, truncation=0.3, occlusion=2)
CROWD = LabelledObject("car", BOX, is_ignored=True)
AREA = LabelledObject(EVERY_CLASS, BOX, is_ignored=True)


@pytest.mark.parametrize(
    ("given", "keeps", "expected", "loss"),
    [
        (CAR, Keeps("class", "share", "grade"), [CAR], ""),
        (CAR, Keeps("class", "yes", "grade"), [CAR._replace(truncation=0.5)], "not by how much"),
        (CAR, Keeps("class", "share", "yes"), [CAR._replace(occlusion=1)], "not by how much"),
        (CAR, Keeps("class", "", "grade"), [CAR._replace(truncation=0)], "truncated objects lose"),
        (CAR, Keeps("class", "share"), [CAR._replace(occlusion=0)], "occluded objects lose"),
        (CROWD, Keeps(), [], "dropped and become background"),
        (CROWD, Keeps("every"), [AREA], "become those of every class"),
        (CROWD, Keeps("class"), [CROWD], ""),
        (AREA, Keeps("every"), [AREA], ""),
        (AREA, Keeps("class"), [CROWD, CROWD._replace(name="bus")], "once for each class"),
        (
            CAR,
            Keeps("", "share", "grade", ("bus",)),
            [],
            "'car', which the format lacks, are dropped",
        ),
    ],
)
def test_what_a_format_keeps_and_loses(given, keeps, expected, loss):
    losses: Counter[str] = Counter()
    frame = CheckedFrame(Path("a.png"), "a", (80, 100), [given])
    assert fitted(frame, keeps, ("car", "bus"), losses).objects == expected
    assert [count for what, count in losses.items() if loss in what] == ([1] if loss else [])
    assert len(losses) == bool(loss)


def test_boxes_are_cut_where_the_format_wants_it():
    wide = LabelledObject("car", (-5, 20, 140, 65))
    frame = CheckedFrame(Path("a.png"), "a", (80, 100), [wide])
    losses: Counter[str] = Counter()
    assert fitted(frame, Keeps(), ("car",), losses).objects == [wide]
    assert not losses
    (cut,) = fitted(frame, Keeps(beyond_edge=False), ("car",), losses).objects
    assert cut.box == (0, 20, 100, 65)
    assert losses.total() == 1
