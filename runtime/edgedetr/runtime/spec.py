"""The contract of a model: its input, its outputs and how to decode them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from edgedetr.runtime.errors import ArtifactError, SettingsError
from edgedetr.runtime.settings import load_settings, settings_from_dict

if TYPE_CHECKING:
    from pathlib import Path

METADATA_KEY = "edgedetr.spec"
"""Key under which a spec lies in the metadata of ONNX and safetensors files."""
MAX_SIDE_PX = 1 << 14
"""Longest side of a network's input, in pixels."""

_CONVENTIONS = {
    *("activation", "no_object", "box_format", "box_unit"),
    *("fused", "labels_name", "extra_inputs", "antialias"),
}
BRIGHTEST = 255
"""The largest value of a pixel."""
_MOST = 1e6  # of a mean, in units of the brightest pixel: far beyond what any network takes


@dataclass(frozen=True)
class ExtraInput:
    """An input beside the image that is the same for every frame.

    Attributes:
        name: Its name; a model that has no such input needs none.
        value: ``width_height`` and ``height_width`` are the size of the network's input, in pixels;
            ``ones`` fill the shape that the input has.
    """

    name: str
    value: Literal["width_height", "height_width", "ones"]


@dataclass(frozen=True)
class ModelSpec:
    """How to feed a detector and how to read its output.

    The defaults of everything behind ``max_detections`` are how `edgedetr.distill` exports; other
    conventions are decoded by `edgedetr.runtime.decode`.

    Attributes:
        input_hw: Height and width of the network's input, in pixels.
        class_names: Names of the classes, in the order of the logits; not empty, on one line.
        resize: ``letterbox`` keeps the aspect ratio, puts the image at the top left and fills the
            rest with ``pad_value``; ``stretch`` resizes both sides freely.
        mean: Per channel (R, G, B), subtracted after division by 255.
        std: Per channel, divides after the mean was subtracted.
        pad_value: Grey level in [0, 255] of the letterbox border.
        input_name: Name of the image tensor, float32 (B, 3, H, W).
        logits_name: Name of the class logits or scores, float32 (B, Q, K).
        boxes_name: Name of the boxes, float32 (B, Q, 4).
        max_detections: How many of the best (query, class) pairs become detections.
        activation: What makes scores of the logits: a sigmoid or, over the classes of a query, a
            softmax. ``sigmoid`` and ``softmax`` mean that the graph outputs such scores itself.
        no_object: Index of the column that stands for no object and has no class name; -1 is the
            last one, None is that there is none.
        box_format: Centre and size, or two corners.
        box_unit: Fractions of the network's input, or its pixels.
        fused: Whether one output, named as logits and as boxes, holds both: (B, Q, 4 + K).
        labels_name: Name of the class indices, integers (B, Q), of a model that outputs one
            class a query; its scores, (B, Q), are named as the logits.
        extra_inputs: Inputs beside the image.
        antialias: Whether images are resized as PIL and torchvision do, see
            `edgedetr.runtime.antialias`, which takes longer; else as `Placement.resize_steps` says.
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
    activation: Literal["sigmoid_logits", "sigmoid", "softmax_logits", "softmax"] = "sigmoid_logits"
    no_object: int | None = None
    box_format: Literal["cxcywh", "xyxy"] = "cxcywh"
    box_unit: Literal["fraction", "pixels"] = "fraction"
    fused: bool = False
    labels_name: str = ""
    extra_inputs: tuple[ExtraInput, ...] = ()
    antialias: bool = False

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
            "no_object": self.no_object is None or -1 <= self.no_object <= len(self.class_names),
            "extra_inputs": len({e.name for e in self.extra_inputs} | {self.input_name})
            == len(self.extra_inputs) + 1,
        }
        for name, ok in checks.items():
            if not ok:
                raise ValueError(f"{name} of a model spec cannot be {getattr(self, name)!r}")
        if self.fused and self.logits_name != self.boxes_name:
            raise ValueError("fused means one output: give logits_name and boxes_name its name")
        if self.labels_name and (
            self.fused or self.no_object is not None or "softmax" in self.activation
        ):
            raise ValueError(
                "with labels_name each query has one score: leave out fused and no_object, and set "
                "activation to sigmoid or sigmoid_logits"
            )

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs to read, in the order in which `edgedetr.runtime.decode` takes them."""
        if self.fused:
            return (self.logits_name,)
        labels = (self.labels_name,) if self.labels_name else ()
        return (self.logits_name, self.boxes_name, *labels)

    @property
    def columns(self) -> int:
        """How many numbers of a query are of classes, no object among them."""
        return len(self.class_names) + (self.no_object is not None)

    @cached_property
    def is_plain(self) -> bool:
        """Whether the outputs need no decoding: logits for a sigmoid, cxcywh in fractions."""
        read = (self.activation, self.no_object, self.box_format, self.box_unit)
        plain = read == ("sigmoid_logits", None, "cxcywh", "fraction")
        return plain and not self.fused and not self.labels_name

    def to_json(self) -> str:
        """Write the spec as one line of JSON, the same for the same spec.

        Conventions that are the default are left out, so that older versions can read it.
        """
        defaults = {f.name: f.default for f in fields(self) if f.name in _CONVENTIONS}
        kept = {k: v for k, v in asdict(self).items() if defaults.get(k, self) != v}
        return json.dumps(kept, sort_keys=True)


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
        SettingsError: If a key is unknown, a value is out of range, or the mean is one of pixels up
            to 255.
    """
    spec = load_settings(ModelSpec, path)
    if max(spec.mean) > 1:
        scaled = ", ".join(f"{m / BRIGHTEST:.4g}" for m in spec.mean)
        raise SettingsError(
            f"{path}: mean {list(spec.mean)} is subtracted after division by 255, so that no pixel "
            f"would be above 0; divide mean and std by 255: mean = [{scaled}]"
        )
    return spec


def no_spec(path: Path) -> ArtifactError:
    """Return the error for an artifact that holds no spec where none was given."""
    return ArtifactError(
        f"{path} holds no model spec ({METADATA_KEY} in its metadata); give --spec SPEC.toml, "
        f"drafted by edgedetr spec {path} -o SPEC.toml"
    )
