"""A backbone alone, of torchvision or timm, as a file that students start from."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import AutoBackbone

from edgedetr.distill.networks.backbones import resnet_config, resnet_d_config
from edgedetr.distill.weights.checkpoint import BACKBONE_ALONE
from edgedetr.distill.weights.normalization import BACKBONE_KEY, normalization_of
from edgedetr.distill.weights.pretrained import load_backbone
from edgedetr.distill.weights.resnet_names import common_names, hub_name, is_resnet
from edgedetr.distill.weights.source_config import CONFIG
from edgedetr.distill.weights.source_tensors import WEIGHTS, require_finite, tensors_of
from edgedetr.distill.weights.tensor_file import tensor_path
from edgedetr.distill.weights.timm_backbone import SHAPES
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable


def is_backbone(place: Path) -> bool:
    """Tell whether a folder or a file holds a backbone: a config of timm's, or a ResNet's names."""
    if place.is_dir():
        try:
            values = read_json(place / CONFIG)
        except (OSError, ValueError):
            return False
        return "architecture" in values and "model_type" not in values
    try:
        with safe_open(os.fspath(place), framework="pt") as file:
            return is_resnet(file.keys())
    except (SafetensorError, OSError):
        return False


def refuse_backbone(source: str) -> None:
    """Stop where a detector is wanted and a backbone is named, by its name or where it lies.

    Raises:
        ArtifactError: If it is one.
    """
    place = Path(source)
    if is_backbone(place) if place.exists() else hub_name(source).startswith("timm/"):
        raise ArtifactError(BACKBONE_ALONE.format(source))


def import_backbone(place: Path, output: Path, *, name: str) -> str:
    """Write a backbone with its mean and std, under names that every family here reads.

    Args:
        place: A folder of timm with ``config.json`` and ``model.safetensors``, or a file.
        output: The ``.safetensors`` file.
        name: What the backbone came as, for the file.

    Returns:
        What it is: ``resnet18``, ``resnet50d`` and so on.

    Raises:
        ArtifactError: If a file is missing or damaged, or holds another backbone.
    """
    weights = place / WEIGHTS if place.is_dir() else place
    if not weights.is_file():
        raise ArtifactError(f"{weights} is missing; bring it as well")
    given = tensors_of(weights)
    require_finite(given, weights)
    names = common_names(given)
    kind = _kind(names, weights)
    config = resnet_d_config if kind.endswith("d") else resnet_config
    network = AutoBackbone.from_config(config(SHAPES[kind.removesuffix("d")], 1))
    load_backbone(network, str(weights))  # checks every tensor
    found = normalization_of(str(place))
    facts = {"name": kind, "source": name, **(found._asdict() if found else {})}
    kept = {common: given[own] for common, own in names.items()}
    with tensor_path(output) as temporary:
        save_file(kept, temporary, {BACKBONE_KEY: json.dumps(facts, sort_keys=True)})
    return kind


def _kind(names: Iterable[str], path: Path) -> str:
    """Return which ResNet has tensors of these common names."""
    names = set(names)
    kind = "bottleneck" if any(".layer.2." in name for name in names) else "basic"
    depths = tuple(
        len({m[1] for n in names if (m := re.match(rf"encoder\.stages\.{s}\.layers\.(\d+)\.", n))})
        for s in range(4)
    )
    deep = "d" if any(name.startswith("embedder.embedder.1.") for name in names) else ""
    for name, shape in SHAPES.items():
        if (shape.depths, shape.layer_type) == (depths, kind):
            return f"{name}{deep}"
    raise ArtifactError(
        f"{path} is no ResNet that a family here has ({', '.join(SHAPES)}, and those with a d "
        f"behind): it has {kind} blocks of depths {', '.join(map(str, depths))}"
    )
