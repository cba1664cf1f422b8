"""Summarize frames and detections at calibration, the baseline of the vehicle's health checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tqdm import tqdm

from edgedetr.runtime.detector import Detector
from edgedetr.runtime.health.digest import HealthDigest, digest_of, figures_of_frame
from edgedetr.runtime.health.image_figures import CameraProbe
from edgedetr.runtime.images import read_image
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from edgedetr.runtime.health.digest import FrameFigures
    from edgedetr.runtime.spec import ModelSpec


def digest(
    path: Path, images: Sequence[Path], spec: ModelSpec | None = None, threshold: float = 0.3
) -> HealthDigest:
    """Run a model over frames and summarize images and detections.

    Args:
        path: An ONNX model of static batch 1.
        images: The frames; each is read once.
        spec: The spec of a model without one.
        threshold: Lowest score that counts; the vehicle's must be the same.

    Raises:
        ArtifactError: If the model is damaged or does not fit its spec.
        DataError: If an image cannot be read.
    """
    with Detector.open(path, "onnxruntime", threshold, spec) as detector:
        return digest_of(_figures(detector, images))


def _figures(detector: Detector, images: Sequence[Path]) -> Iterator[FrameFigures]:
    probe = CameraProbe()
    classes = len(detector.spec.class_names)
    for path in tqdm(images, desc="digest", unit="frame", disable=None, leave=False):
        image = read_image(path)
        yield figures_of_frame(probe(image), detector.detect(Frame(image)), classes)
