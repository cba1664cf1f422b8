"""The ranges that calibration measured, tied by hashes to the model and the frames."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from edgedetr.calib.methods import Method
from edgedetr.graph.checksum import model_sha256
from edgedetr.graph.int8 import scale_from_amax
from edgedetr.runtime.errors import ArtifactError, SettingsError
from edgedetr.runtime.files import read_json, write_text
from edgedetr.runtime.settings import settings_from_dict
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from pathlib import Path


STATS_SUFFIX = ".calib.json"
"""What the name of a model's stats ends with."""


@dataclass(frozen=True)
class TensorRange:
    """The range of one activation.

    Attributes:
        tensor: Its name in the model.
        amax: The magnitude that INT8's 127 stands for.
        max: The largest magnitude that calibration saw.
        low: The value that uint8's 0 stands for; None where no calibration chose it.
        high: The value that uint8's 255 stands for; likewise.
    """

    tensor: str
    amax: float
    max: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max) and 0 <= self.amax <= self.max):
            raise ValueError(f"amax {self.amax} of {self.tensor} must lie in 0 to {self.max}")
        if (self.low is None) != (self.high is None) or not (
            -self.max <= (self.low or 0.0) <= 0 <= (self.high or 0.0) <= self.max
        ):
            raise ValueError(
                f"the range {self.low} to {self.high} of {self.tensor} must hold 0 and lie in "
                f"{-self.max} to {self.max}"
            )

    @property
    def scale(self) -> float:
        """The value of one INT8 step."""
        return scale_from_amax(self.amax)


@dataclass(frozen=True)
class CalibrationStats:
    """What `edgedetr calib collect` writes.

    Attributes:
        model: File name of the model.
        model_sha256: Hash of the model's bytes, see `edgedetr.graph.checksum`.
        spec: The contract by which the frames were fed.
        method: How each amax was chosen, see `edgedetr.calib.scales`.
        percentile: The share in per cent that the method ``percentile`` kept.
        frames: How many frames were seen.
        frames_sha256: Hash of their RGB pixels, in order.
        ranges: One for each activation that INT8 may need.
        magnitudes: The largest magnitude of every float tensor that a node makes, seen on some of
            the frames: what FP16 must hold.
        shifts: By how much INT8 or FP8 lowers the mean of each output channel, for each scheme of
            rounding (see `edgedetr.calib.targets`) and each result of such a node.
        weights: Label of a node to the scale of each output channel of its INT8 weights, where
            training chose them; calibration leaves them to the largest weight.
    """

    model: str
    model_sha256: str
    spec: ModelSpec
    method: Method
    percentile: float
    frames: int
    frames_sha256: str
    ranges: tuple[TensorRange, ...]
    magnitudes: dict[str, Any] = field(default_factory=dict)
    shifts: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [r.tensor for r in self.ranges]
        if len(set(names)) != len(names):
            raise ValueError("a tensor has two ranges")
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name, value in self.magnitudes.items():
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
                raise ValueError(f"the magnitude of {name} cannot be {value!r}")
        for of_scheme in self.shifts.values():
            for name, values in of_scheme.items():
                if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
                    raise ValueError(f"the shifts of {name} are not finite numbers")
        for name, scales in self.weights.items():
            if not all(isinstance(s, (int, float)) and 0 < s < math.inf for s in scales):
                raise ValueError(f"the scales of the weights of {name} are not positive numbers")

    def write(self, path: Path) -> None:
        """Write the stats as JSON, whole or not at all."""
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")

    def check_model(self, path: Path) -> None:
        """Stop unless the stats were collected with exactly this model.

        Raises:
            ArtifactError: If the model is another, or was changed.
        """
        found = model_sha256(path)
        if found != self.model_sha256:
            raise ArtifactError(
                f"the calibration was made with {self.model} ({self.model_sha256[:12]}...), but "
                f"{path} has the SHA-256 {found[:12]}...; run: edgedetr calib collect {path}"
            )


def read_stats(path: Path) -> CalibrationStats:
    """Read what `CalibrationStats.write` wrote.

    Raises:
        ArtifactError: If the file is missing, damaged or no calibration.
    """
    try:
        return settings_from_dict(CalibrationStats, read_json(path), str(path))
    except (OSError, ValueError, SettingsError) as error:
        raise ArtifactError(f"{path} is not a calibration file: {error}") from error


def default_stats_path(model: Path) -> Path:
    """Return the default path of a model's stats."""
    return model.with_suffix(STATS_SUFFIX)
