"""Ranges that a network was trained with, in its ONNX file's metadata: it needs no calibration."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from onnx import helper

from edgedetr.calib.methods import Method
from edgedetr.calib.stats import CalibrationStats, TensorRange
from edgedetr.graph.checksum import model_sha256
from edgedetr.graph.model_file import embedded_spec
from edgedetr.runtime.errors import ArtifactError, SettingsError
from edgedetr.runtime.settings import settings_from_dict

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

RANGES_KEY = "edgedetr.ranges"
"""Key of `StoredRanges` in a model's metadata."""


@dataclass(frozen=True)
class StoredRanges:
    """Where a float32 graph is to be quantized, and with which ranges.

    Attributes:
        include: See `edgedetr.export.transforms.quantize.quantize`.
        exclude: Likewise.
        method: How calibration chose each amax, see `edgedetr.calib.scales`.
        percentile: Likewise.
        frames: How many frames were seen for them.
        frames_sha256: Hash of these frames.
        ranges: One for each activation that these nodes need.
        weights: The scales of the weights of nodes that learnt them, see `CalibrationStats`.
    """

    include: str
    exclude: str
    method: Method
    percentile: float
    frames: int
    frames_sha256: str
    ranges: tuple[TensorRange, ...]
    weights: dict[str, Any] = field(default_factory=dict)

    def stats(self, model: onnx.ModelProto, path: Path) -> CalibrationStats:
        """Return them as the stats of the model that holds them."""
        return CalibrationStats(
            model=path.name,
            model_sha256=model_sha256(path),
            spec=embedded_spec(model, path),
            method=self.method,
            percentile=self.percentile,
            frames=self.frames,
            frames_sha256=self.frames_sha256,
            ranges=self.ranges,
            weights=self.weights,
        )


def store_ranges(model: onnx.ModelProto, ranges: StoredRanges) -> None:
    """Store ranges in a model's metadata; other entries stay."""
    others = {p.key: p.value for p in model.metadata_props}
    helper.set_model_props(model, others | {RANGES_KEY: json.dumps(asdict(ranges))})


def stored_ranges(model: onnx.ModelProto, path: Path) -> StoredRanges:
    """Return the ranges that a model holds.

    Raises:
        ArtifactError: If it holds none, or they are damaged; ``path`` says where it was found.
    """
    texts = [p.value for p in model.metadata_props if p.key == RANGES_KEY]
    if not texts:
        raise ArtifactError(
            f"{path} was not trained for INT8 and holds no ranges; give STATS: "
            f"edgedetr calib collect {path}"
        )
    try:
        return settings_from_dict(StoredRanges, json.loads(texts[0]), str(path))
    except (json.JSONDecodeError, SettingsError) as error:
        raise ArtifactError(f"{path}: its ranges are damaged: {error}") from error
