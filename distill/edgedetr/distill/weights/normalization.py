"""Mean and std that weights from elsewhere were trained with, as the files beside them say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError, safe_open

from edgedetr.distill.weights.hub_errors import HUB_ERRORS
from edgedetr.distill.weights.resnet_names import hub_name
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import read_json
from edgedetr.runtime.hub import cache_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

BACKBONE_KEY = "edgedetr.backbone"
"""Key of the metadata of a backbone that `edgedetr import` wrote, with its mean and std."""
FILES = ("preprocessor_config.json", "config.json")
"""Where transformers and timm say it."""

Channels = tuple[float, float, float]


class Normalization(NamedTuple):
    """What the channels R, G, B of pixels in [0, 1] lose and are divided by."""

    mean: Channels
    std: Channels


def normalization_of(source: str) -> Normalization | None:
    """Return what weights were trained with; None where no file says it.

    Args:
        source: A ``.safetensors`` file, a folder or a repository of the hub.

    Raises:
        ArtifactError: If a file is there and damaged.
    """
    own = _of_backbone(source)
    if own is not None:
        return own
    source = hub_name(source)
    for name in FILES:
        path = _beside(source, name)
        if path is None:
            continue
        try:
            found = _read(read_json(path))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            if name != FILES[0]:
                continue  # a config that says nothing of it may be anything
            raise ArtifactError(f"{path}: not a readable {name}: {error}") from error
        if found is not None:
            return found
    return None


def _of_backbone(source: str) -> Normalization | None:
    """Return what an imported backbone says itself; None where it is none or silent."""
    if not source.endswith(".safetensors") or not Path(source).is_file():
        return None
    try:
        with safe_open(source, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get(BACKBONE_KEY, "{}"))
        return Normalization(_channels(facts["mean"]), _channels(facts["std"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return None


def _read(values: Mapping[str, Any]) -> Normalization | None:
    """Read transformers' processor or timm's config; None where there is neither."""
    timm = values.get("pretrained_cfg", {})
    if "mean" in timm:
        return Normalization(_channels(timm["mean"]), _channels(timm["std"]))
    if not values.keys() & {"do_normalize", "image_mean", "do_rescale"}:
        return None
    factor = values.get("rescale_factor", 1 / 255) if values.get("do_rescale", True) else 1.0
    scale = 255 * float(factor)
    mean, std = [0.0] * 3, [1.0] * 3
    if values.get("do_normalize", "image_mean" in values):
        mean, std = values["image_mean"], values["image_std"]
    return Normalization(
        _channels([float(m) / scale for m in mean]), _channels([float(s) / scale for s in std])
    )


def _channels(values: list[float]) -> Channels:
    red, green, blue = (round(float(v), 9) for v in values)
    return red, green, blue


def _beside(source: str, name: str) -> Path | None:
    """Return a file of a source; None where there is none."""
    from huggingface_hub import hf_hub_download

    path, brought = Path(source), cache_folder("hub") / source
    if not path.exists() and brought.is_dir():
        path = brought
    if path.exists() or path.suffix == ".safetensors":
        found = (path if path.is_dir() else path.parent) / name
        return found if found.is_file() else None
    try:
        return Path(hf_hub_download(source, name))
    except HUB_ERRORS:
        return None
