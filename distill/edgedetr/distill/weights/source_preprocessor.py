"""The input of a model that comes from elsewhere, from its ``preprocessor_config.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import read_json
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PREPROCESSOR = "preprocessor_config.json"
KINDS = ("ConditionalDetr", "DeformableDetr", "Detr", "RTDetr", "RfDetr", "Yolos")
"""What the name of an image processor for detection begins with."""
PLAIN = ("RfDetr",)
"""Those that do not antialias."""
BILINEAR = 2
"""Of PIL's filters, which transformers numbers them by."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, which every one of these processors has where its file is silent."""
DEFAULT_SIZES = {"RTDetr": {"height": 640, "width": 640}}
OTHER_SIZE = {"shortest_edge": 800, "longest_edge": 1333}
LONGEST = 1333
"""Pixels of the longer side where an old file gives the shorter one alone."""


def read_spec(
    folder: Path, class_names: tuple[str, ...], input_hw: tuple[int, int] | None
) -> ModelSpec:
    """Return the contract of a folder's model.

    An image that a processor resizes to its shorter side, and no further than its longer side may
    be, is put into an input of both sides as landscape, and the rest is filled with the grey of the
    mean. With ``input_hw`` of the frames' own proportions nothing needs to be filled.

    Args:
        folder: With ``preprocessor_config.json``.
        class_names: The model's classes.
        input_hw: Height and width of the input, in pixels; None takes the processor's.

    Raises:
        ArtifactError: If the file is missing, damaged or of a processor for something else.
    """
    path = folder / PREPROCESSOR
    if not path.is_file():
        raise ArtifactError(
            f"{path} is missing, which says how images are resized and normalized; bring it as well"
        )
    try:
        values = read_json(path)
        kind = _kind(values)
        resize, size = _resize(values, kind)
        mean, std = _normalization(values, kind)
        return ModelSpec(
            input_hw=input_hw or size,
            class_names=class_names,
            resize="stretch" if resize == "stretch" else "letterbox",
            mean=mean,
            std=std,
            antialias=kind not in PLAIN,
            pad_value=round(255 * min(max(sum(mean) / 3, 0), 1)),
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"{path}: {error}") from error


def _kind(values: Mapping[str, Any]) -> str:
    """Return which of `KINDS` made the file."""
    name = str(values.get("image_processor_type") or values.get("feature_extractor_type") or "")
    found = next((kind for kind in KINDS if name.startswith(kind)), "")
    if not found or values.get("do_center_crop"):
        raise ValueError(
            f"its image processor {name or 'has no name and'} is not one for detection; bring the "
            f"{PREPROCESSOR} of the same model (those for detection are "
            f"{', '.join(f'{kind}ImageProcessor' for kind in KINDS)})"
        )
    return found


def _resize(values: Mapping[str, Any], kind: str) -> tuple[str, tuple[int, int]]:
    """Return the rule and the height and width of the input, in pixels."""
    if values.get("resample", BILINEAR) != BILINEAR:
        raise ValueError(
            f"resample is {values['resample']!r}, wanted {BILINEAR}: images are resized bilinearly "
            "here"
        )
    size = values.get("size", DEFAULT_SIZES.get(kind, OTHER_SIZE))
    if isinstance(size, int):
        size = {"shortest_edge": size, "longest_edge": values.get("max_size", LONGEST)}
    if not values.get("do_resize", True):
        raise ValueError("do_resize is false, and every input must have one size; set it to true")
    for rule, sides in _RULES.items():
        if all(isinstance(size.get(side), int) for side in sides):
            return rule, (size[sides[0]], size[sides[1]])
    raise ValueError(
        f"size is {size!r}, wanted height and width, or shortest_edge and longest_edge"
    )


_RULES = {
    "stretch": ("height", "width"),
    "letterbox": ("max_height", "max_width"),
    "edges": ("shortest_edge", "longest_edge"),
}


def _normalization(
    values: Mapping[str, Any], kind: str
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and std of pixels in [0, 1], whatever the processor scales them to."""
    scale = 1.0
    if not values.get("do_rescale", True):
        scale = 255.0
    elif abs(255 * values.get("rescale_factor", 1 / 255) - 1) > 1e-6:
        scale = 255 * float(values["rescale_factor"])
    if not values.get("do_normalize", kind != "RTDetr"):
        return (0.0, 0.0, 0.0), (1 / scale, 1 / scale, 1 / scale)
    mean, std = (
        [float(x) / scale for x in values.get(key, default)]
        for key, default in (("image_mean", MEAN), ("image_std", STD))
    )
    if len(mean) != 3 or len(std) != 3:
        raise ValueError(
            f"image_mean and image_std have {len(mean)} and {len(std)} numbers, wanted 3"
        )
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
