"""`Detections` to and from those of supervision."""

import sys
from types import SimpleNamespace

import pytest

from edgedetr.runtime.conversions.supervision import from_supervision, to_supervision
from edgedetr.runtime.errors import DataError, UsageError


def test_there_and_back(found, names, same):
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    theirs = to_supervision(found, names)
    assert isinstance(theirs, supervision.Detections)
    assert theirs.xyxy.tolist() == found.boxes.tolist()
    assert theirs["class_name"].tolist() == ["traffic light", "Car"]
    same(from_supervision(theirs[::-1]), found)  # ours are sorted, whatever theirs are
    assert len(from_supervision(supervision.Detections.empty())) == 0


def test_truth_without_scores_is_no_detection():
    with pytest.raises(DataError, match="lack confidence or class_id"):
        from_supervision(SimpleNamespace(confidence=None, class_id=None))


def test_without_the_library_it_says_what_to_install(found, names, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UsageError, match="pip install supervision"):
        to_supervision(found, names)
