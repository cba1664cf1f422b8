"""The digest of calibration: its file and its comparison."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.health.digest import digest_of, divergence, figures_of_frame, read_digest
from edgedetr.runtime.health.image_figures import CameraProbe
from edgedetr.runtime.types import Detections


@pytest.fixture(scope="module")
def digest():
    """The digest of five noisy frames with one object each."""
    probe = CameraProbe()
    box, score = np.array([[0, 0, 10, 20]], np.float32), np.array([0.9], np.float32)
    found = Detections(box, score, np.array([1]))
    frames = np.random.default_rng(0).integers(0, 256, (5, 200, 400, 3), np.uint8)
    return digest_of(figures_of_frame(probe(frame), found, 3) for frame in frames)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("layout_means", (0.0,), "128 means"),
        ("layout_deviations", (1.0,) * 127, "128 means"),
        ("size_counts", (1,), "6 sizes"),
        ("class_counts", (1, -1, 3), "counts objects"),
        ("means", (1.0, 2, 3, 4, float("nan")), "wanted a finite number"),
        ("deviations", (1.0, 2, 3, 4, -1), "negative"),
    ],
)
def test_a_digest_that_could_not_be_compared_is_refused(digest, tmp_path, key, value, message):
    path = tmp_path / "a.health.json"
    digest.write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ArtifactError, match=message):
        read_digest(path)


def test_divergence_of_histograms():
    assert divergence(np.array([4, 4]), np.array([1, 1])) == 0
    assert divergence(np.array([4, 0]), np.array([0, 1])) == 1
    half = divergence(np.array([1, 1]), np.array([2, 0]))
    p, q = 0.5 * np.log2(0.5 / 0.75) + 0.5 * np.log2(0.5 / 0.25), np.log2(1 / 0.75)
    assert half == pytest.approx((p + q) / 2)


def test_digest_survives_its_file(digest, tmp_path):
    path = tmp_path / "student.health.json"
    digest.write(path)
    assert read_digest(path) == digest
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError, match="not a health digest"):
        read_digest(path)
