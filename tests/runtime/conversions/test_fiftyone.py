"""`Detections` to and from those of FiftyOne."""

import sys
from types import SimpleNamespace

import pytest

from edgedetr.runtime.conversions.fiftyone import from_fiftyone, to_fiftyone
from edgedetr.runtime.errors import DataError, UsageError

HW = (80, 100)


def test_there_and_back(found, names, same):
    fiftyone = pytest.importorskip("fiftyone", reason="FiftyOne is not installed")
    theirs = to_fiftyone(found, HW, names)
    assert isinstance(theirs, fiftyone.Detections)
    first = theirs.detections[0]
    assert (first.label, first.confidence) == ("traffic light", pytest.approx(0.9))
    assert first.bounding_box == pytest.approx([0.1, 0.25, 0.3, 0.5625])
    same(from_fiftyone(theirs, HW, names), found)


def one(**changes):
    values = {"label": "Car", "bounding_box": [0.1, 0.25, 0.3, 0.5], "confidence": 0.5}
    return SimpleNamespace(**(values | changes))


def test_boxes_become_pixels_and_the_best_is_first(names):
    theirs = SimpleNamespace(detections=[one(), one(label="traffic light", confidence=0.75)])
    made = from_fiftyone(theirs, HW, names)
    assert made.labels.tolist() == [1, 0]
    assert made.boxes[0].tolist() == [10, 20, 40, 60]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"confidence": None}, "has no confidence"), ({"label": "Tram"}, "no class 'Tram'")],
)
def test_what_is_no_detection(changes, message, names):
    with pytest.raises(DataError, match=message):
        from_fiftyone(SimpleNamespace(detections=[one(**changes)]), HW, names)


def test_without_the_library_it_says_what_to_install(found, names, monkeypatch):
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(UsageError, match="pip install fiftyone"):
        to_fiftyone(found, HW, names)
