"""The contract of a model: what it eats, what it answers and how to read the answer."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from edgedetr.runtime.errors import ArtifactError, SettingsError
from edgedetr.runtime.settings import load_settings, settings_from_dict

if TYPE_CHECKING:
    from pathlib import Path

METADATA_KEY = "edgedetr.spec"
"""Key under which a spec lies in the metadata of ONNX and safetensors files."""
MAX_SIDE_PX = 1 << 14
"""Longest side of a network's input, in pixels."""

_MOST = 1e6  # of a mean, in units of the brightest pixel: far beyond what any network takes


@dataclass(frozen=True)
class ModelSpec:
    """How to feed a detector and how to read its output.

    Attributes:
        input_hw: Height and width of the network's input, in pixels.
        class_names: Names of the classes, in the order of the logits; not empty, on one line.
        resize: ``letterbox`` keeps the aspect ratio, puts the image at the top left and fills the
            rest with ``pad_value``; ``stretch`` resizes both sides freely.
        mean: Per channel (R, G, B), subtracted after division by 255.
        std: Per channel, divides after the mean was subtracted.
        pad_value: Grey level in [0, 255] of the letterbox border.
        input_name: Name of the image tensor, float32 (B, 3, H, W).
        logits_name: Name of the class logits, float32 (B, Q, K); a sigmoid makes them scores.
        boxes_name: Name of the boxes, float32 (B, Q, 4): cxcywh as a fraction of the network input.
        max_detections: How many of the best (query, class) pairs become detections.
    """

    input_hw: tuple[int, int]
    class_names: tuple[str, ...]
    resize: Literal["letterbox", "stretch"] = "letterbox"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pad_value: int = 114
    input_name: str = "images"
    logits_name: str = "logits"
    boxes_name: str = "boxes"
    max_detections: int = 100

    def __post_init__(self) -> None:
        checks = {
            "input_hw": all(1 <= side <= MAX_SIDE_PX for side in self.input_hw),
            "class_names": len(self.class_names) >= 1
            and len(set(self.class_names)) == len(self.class_names)
            and all(name.isprintable() and name.strip() for name in self.class_names),
            "mean": all(abs(m) <= _MOST for m in self.mean),
            "std": all(1 / _MOST <= s <= _MOST for s in self.std),
            "pad_value": 0 <= self.pad_value <= 255,
            "max_detections": self.max_detections >= 1,
        }
        for name, ok in checks.items():
            if not ok:
                raise ValueError(f"{name} of a model spec cannot be {getattr(self, name)!r}")

    def to_json(self) -> str:
        """Write the spec as one line of JSON, the same for the same spec."""
        return json.dumps(asdict(self), sort_keys=True)


def spec_from_json(text: str, source: str) -> ModelSpec:
    """Read what `ModelSpec.to_json` wrote.

    Args:
        text: The JSON.
        source: Where it was found, for the message.

    Raises:
        ArtifactError: If it is no spec.
    """
    try:
        return settings_from_dict(ModelSpec, json.loads(text), source)
    except (ValueError, RecursionError, SettingsError) as error:
        raise ArtifactError(f"{source}: not a model spec: {error}") from error


def spec_from_toml(path: Path) -> ModelSpec:
    """Read the spec of a foreign model from a TOML file.

    Raises:
        SettingsError: If a key is unknown or a value is out of range.
    """
    return load_settings(ModelSpec, path)
