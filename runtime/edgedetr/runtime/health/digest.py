"""The health digest: figures of the calibration frames, with which the road is compared."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgedetr.runtime.errors import ArtifactError, SettingsError
from edgedetr.runtime.files import read_text, write_text
from edgedetr.runtime.health.image_figures import LAYOUT_HW
from edgedetr.runtime.settings import settings_from_dict

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from edgedetr.runtime.health.image_figures import CameraFigures
    from edgedetr.runtime.types import Detections

SIZE_EDGES_PX = (0.0, 16.0, 32.0, 64.0, 128.0, 256.0, float("inf"))
"""Box heights between which the size histogram counts, in pixels."""


@dataclass(frozen=True)
class FrameFigures:
    """Figures of one frame and its detections.

    Attributes:
        camera: Figures of the image.
        detections: How many objects were found.
        score_entropy: Mean over them of the entropy of their score, in bits: 1 for scores of a
            half, near 0 where the model is sure.
        class_counts: Objects of each class.
        size_counts: Objects of each height, see `SIZE_EDGES_PX`.
    """

    camera: CameraFigures
    detections: int
    score_entropy: float
    class_counts: NDArray[np.int64]
    size_counts: NDArray[np.int64]

    def scalars(self) -> NDArray[np.float64]:
        """Return what `SCALARS` names."""
        camera = self.camera
        light = (camera.brightness, camera.contrast, camera.sharpness)
        return np.array([*light, self.detections, self.score_entropy])


SCALARS = ("brightness", "contrast", "sharpness", "detections", "score_entropy")
_LEAST_DEVIATIONS = np.array([8.0, 6.0, 0.4, 1.0, 0.1])
"""Frames of one drive look more alike than the road does; a digest never counts as narrower."""


def figures_of_frame(camera: CameraFigures, found: Detections, classes: int) -> FrameFigures:
    """Join the figures of an image and of its detections."""
    p = np.clip(found.scores.astype(np.float64), 1e-6, 1 - 1e-6)
    entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    heights = found.boxes[:, 3] - found.boxes[:, 1]
    return FrameFigures(
        camera=camera,
        detections=len(found),
        score_entropy=float(entropy.mean()) if len(found) else 0.0,
        class_counts=np.bincount(found.labels, minlength=classes),
        size_counts=np.histogram(heights, SIZE_EDGES_PX)[0],
    )


@dataclass(frozen=True)
class HealthDigest:
    """The figures of calibration's frames.

    Attributes:
        frames: How many they were.
        means: Of each of `SCALARS` over the frames.
        deviations: Standard deviations likewise.
        layout_means: Of each cell of `CameraFigures.layout`, row by row.
        layout_deviations: Likewise.
        class_counts: Objects of each class.
        size_counts: Objects of each height.
    """

    frames: int
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    layout_means: tuple[float, ...]
    layout_deviations: tuple[float, ...]
    class_counts: tuple[int, ...]
    size_counts: tuple[int, ...]

    def __post_init__(self) -> None:
        cells, sizes = LAYOUT_HW[0] * LAYOUT_HW[1], len(SIZE_EDGES_PX) - 1
        if self.frames < 1 or not len(self.means) == len(self.deviations) == len(SCALARS):
            raise ValueError(f"a digest needs frames and {len(SCALARS)} means and deviations")
        if not len(self.layout_means) == len(self.layout_deviations) == cells:
            raise ValueError(f"the layout of a digest has {cells} means and deviations")
        if len(self.size_counts) != sizes or min((*self.class_counts, *self.size_counts)) < 0:
            raise ValueError(f"a digest counts objects of each class and of {sizes} sizes")
        figures = (self.means, self.deviations, self.layout_means, self.layout_deviations)
        if not all(math.isfinite(value) for values in figures for value in values):
            raise ValueError("a digest holds finite numbers")
        if min(self.deviations + self.layout_deviations) < 0:
            raise ValueError("no deviation of a digest is negative")

    def drifts(self, window: Sequence[FrameFigures]) -> dict[str, float]:
        """Return how far a window of frames is from calibration.

        Returns:
            For each of `SCALARS`, and for ``layout``, the distance of the window's mean in
            standard deviations; for ``classes`` and ``sizes`` the Jensen-Shannon divergence of
            the histograms in [0, 1], where both hold at least `LEAST_OBJECTS`; for ``turned`` how
            much better the layout of light correlates with calibration's when that is turned by 90,
            180 or 270 degrees, in [-2, 2]. At another brightness ``turned`` is left out: at
            night the sky is darker than the road. So it is where calibration's frames have no
            layout in common.
        """
        mean = np.mean([f.scalars() for f in window], axis=0)
        apart = np.abs(mean - self.means) / np.maximum(self.deviations, _LEAST_DEVIATIONS)
        drifts = dict(zip(SCALARS, map(float, apart), strict=True))
        layout = np.mean([f.camera.layout.ravel() for f in window], axis=0)
        scaled = (layout - self.layout_means) / (np.array(self.layout_deviations) + _LEAST_LAYOUT)
        drifts["layout"] = float(np.sqrt(np.mean(np.square(scaled))))
        if drifts["brightness"] < _SAME_LIGHT and np.std(self.layout_means) >= _COMMON_LAYOUT:
            as_it_was, *turned = self._turned_layouts @ _unit(layout)
            drifts["turned"] = float(max(turned) - as_it_was)
        for name, known, counts in (
            ("classes", self.class_counts, [f.class_counts for f in window]),
            ("sizes", self.size_counts, [f.size_counts for f in window]),
        ):
            found = np.sum(counts, axis=0)
            if min(found.sum(), sum(known)) >= LEAST_OBJECTS:
                drifts[name] = divergence(found, np.asarray(known))
        return drifts

    @cached_property
    def _turned_layouts(self) -> NDArray[np.float64]:
        """The layout of light, and as a camera turned by 90, 180 and 270 degrees has it, (4, N)."""
        known = np.reshape(np.array(self.layout_means, np.float32), LAYOUT_HW)
        turned = (np.ascontiguousarray(np.rot90(known, quarters)) for quarters in range(4))
        size = LAYOUT_HW[::-1]
        cells = [cv2.resize(layout, size, interpolation=cv2.INTER_AREA) for layout in turned]
        return np.array([_unit(np.asarray(layout, np.float64).ravel()) for layout in cells])

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the digest as JSON, whole or not at all."""
        write_text(path, json.dumps(asdict(self)) + "\n")


_LEAST_LAYOUT = 0.05
_SAME_LIGHT = 2.0
_COMMON_LAYOUT = 0.4  # of the deviation of one frame's layout, which is 1
LEAST_OBJECTS = 30
"""Objects that a histogram must hold to be compared."""


def digest_of(frames: Iterable[FrameFigures]) -> HealthDigest:
    """Sum up the figures of calibration's frames.

    Raises:
        ValueError: If there are none.
    """
    seen = list(frames)
    if not seen:
        raise ValueError("a digest needs at least one frame")
    scalars = np.array([f.scalars() for f in seen])
    layouts = np.array([f.camera.layout.ravel() for f in seen])
    return HealthDigest(
        frames=len(seen),
        means=tuple(scalars.mean(0).tolist()),
        deviations=tuple(scalars.std(0).tolist()),
        layout_means=tuple(layouts.mean(0).tolist()),
        layout_deviations=tuple(layouts.std(0).tolist()),
        class_counts=tuple(np.sum([f.class_counts for f in seen], axis=0).tolist()),
        size_counts=tuple(np.sum([f.size_counts for f in seen], axis=0).tolist()),
    )


def read_digest(path: str | os.PathLike[str]) -> HealthDigest:
    """Read what `HealthDigest.write` wrote.

    Raises:
        ArtifactError: If the file is missing, damaged or no digest.
    """
    try:
        return settings_from_dict(HealthDigest, json.loads(read_text(path)), str(path))
    except (OSError, ValueError, RecursionError, SettingsError) as error:
        raise ArtifactError(f"{path}: not a health digest: {error}") from error


def divergence(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Return the Jensen-Shannon divergence of two histograms, in bits: 0 equal, 1 disjoint."""
    p, q = a / a.sum(), b / b.sum()
    middle = (p + q) / 2
    return float((_bits(p, middle) + _bits(q, middle)) / 2)


def _unit(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return what makes the correlation of two layouts a dot product."""
    centred = values - values.mean()
    return np.asarray(centred / (np.linalg.norm(centred) + 1e-9), np.float64)


def _bits(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / q[some])))
