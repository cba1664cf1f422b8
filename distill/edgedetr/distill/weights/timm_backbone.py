"""Detectors whose backbone is timm's ResNet, made of transformers' ResNet instead.

The weights of DETR, Conditional DETR, DAB-DETR and Deformable DETR on the hub name their backbone
as timm does, and transformers builds it with timm. It is the same network under other names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from edgedetr.distill.networks.backbones import R18, R34, R50, R101, resnet_config
from edgedetr.distill.weights.resnet_names import common_names
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

FAMILIES = ("conditional_detr", "dab_detr", "deformable_detr", "detr")
"""Whose configs mean a backbone of timm where they say nothing else."""
SHAPES = {"resnet18": R18, "resnet34": R34, "resnet50": R50, "resnet101": R101}
OPTIONS = ("backbone", "backbone_kwargs", "use_pretrained_backbone", "use_timm_backbone")
PLACE = re.compile(r"(.*backbone\.(?:conv_encoder\.)?model\.)((?:conv1|bn1|layer\d)\..*)")
"""A tensor of such a backbone in a detector: what stands before its name, and the name."""


def in_transformers_terms(family: str, values: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the values of a config with transformers' ResNet for timm's.

    Args:
        family: Of the detector.
        values: Of its ``config.json``.
        path: That file, for messages.

    Raises:
        ArtifactError: If the backbone is another one of timm's.
    """
    given = values.get("backbone_config")
    named = isinstance(given, dict) and given.get("model_type") == "timm_backbone"
    implied = family in FAMILIES and given is None and values.get("use_timm_backbone", True)
    if not (named or implied or values.get("use_timm_backbone")):
        return values
    options = given if isinstance(given, dict) else {}
    name = str(options.get("backbone") or values.get("backbone") or "resnet50")
    shape = SHAPES.get(name.partition(".")[0])
    if shape is None:
        raise ArtifactError(
            f"{path}: its backbone {name} is one of timm's, which is not installed; those that "
            f"need no timm are {', '.join(SHAPES)}"
        )
    if values.get("dilation"):
        raise ArtifactError(
            f"{path}: its backbone {name} is dilated (DC5), which only timm builds, and timm is "
            "not installed; take the model without dilation"
        )
    levels = 3 if family == "deformable_detr" and values.get("num_feature_levels", 4) > 1 else 1
    backbone = resnet_config(shape, levels).to_diff_dict()
    kept = {key: value for key, value in values.items() if key not in OPTIONS}
    return {**kept, "backbone_config": backbone}


def in_transformers_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with a ResNet of timm's or torchvision's in a detector renamed."""
    found = {name: match.groups() for name in tensors if (match := PLACE.fullmatch(name))}
    renamed = {
        inner: common
        for common, inner in common_names(inner for _, inner in found.values()).items()
    }
    return {
        f"{found[name][0]}{renamed[found[name][1]]}" if name in found else name: tensor
        for name, tensor in tensors.items()
        if name not in found or found[name][1] in renamed
    }
