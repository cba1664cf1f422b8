"""Detectors of the package are found by name, where no file has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgedetr.runtime import Detector, Frame
from edgedetr.runtime.bundled import bundled_detectors, named_detector
from edgedetr.runtime.errors import ArtifactError


def test_a_name_is_a_detector_unless_something_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named_detector(Path("road")) == bundled_detectors()["road"]
    for other in ("road.onnx", "models/road", "rode"):
        assert named_detector(Path(other)) == Path(other)
    Path("road").mkdir()
    assert named_detector(Path("road")) == Path("road")


def test_the_detector_opens_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Detector.open("road") as detector:
        assert detector.spec.class_names == ("bus", "car", "motorbike", "person", "truck")
        found = detector.detect(Frame(np.zeros((100, 160, 3), np.uint8)))
        assert (found.scores >= 0.3).all()
    with pytest.raises(ArtifactError, match="rode"):
        Detector.open("rode")
