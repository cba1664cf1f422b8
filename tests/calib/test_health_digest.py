"""What calibration notes for the vehicle's health checks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgedetr.calib.health_digest import digest
from edgedetr.runtime.errors import ArtifactError, DataError


@pytest.fixture
def frames(tmp_path):
    """Two white images, in which tiny.onnx finds a car, and a black one, in which it does not."""
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, level in zip(paths, (255, 255, 0), strict=True):
        assert cv2.imwrite(str(path), np.full((80, 160, 3), level, np.uint8))
    return paths


def test_digest_by_hand(tiny_onnx, frames):
    found = digest(tiny_onnx(), frames)
    assert found.frames == 3
    assert found.means[0] == pytest.approx(170)  # brightness
    assert found.deviations[0] == pytest.approx(np.std([255, 255, 0]))
    assert found.means[3] == pytest.approx(2 / 3)  # detections
    assert found.class_counts == (2, 0)
    assert found.size_counts == (0, 0, 2, 0, 0, 0)  # boxes of half the height: 40 px


def test_bad_input_is_told(tiny_onnx, frames):
    frames[1].write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1\.png"):
        digest(tiny_onnx(), frames)
    with pytest.raises(ArtifactError, match="missing"):
        digest(frames[0].with_suffix(".onnx"), frames[:1])
