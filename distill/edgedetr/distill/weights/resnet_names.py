"""One naming for the tensors of a ResNet, whoever named them.

torchvision and timm call the same tensor alike in a plain ResNet; timm's ResNet-D (a stem of three
convolutions, an average pool in the shortcuts) numbers stem and shortcuts otherwise. transformers
has its own names, which are the common ones here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgedetr.runtime.hub import TORCHVISION

if TYPE_CHECKING:
    from collections.abc import Iterable

BACKBONES = tuple(f"resnet{depth}" for depth in (18, 34, 50, 101))
"""Backbones of torchvision; it publishes pickles, and timm the same weights as safetensors."""
FIRST = re.compile(
    r"(?:resnet\.)?(?:layer1\.0\.conv1|encoder\.stages\.0\.layers\.0\.layer\.0\.convolution)\.weight"
)
"""A tensor that every ResNet has, and no detector under this name."""
HEADS = ("fc.", "head.", "classifier.", "last_linear.")
"""What the tensors of a classification head begin with."""


def hub_name(source: str) -> str:
    """Return the repository of the hub that has a backbone of torchvision; else the source itself.

    >>> hub_name("torchvision:resnet50"), hub_name("resnet18"), hub_name("timm/resnet18d.ra2_in1k")
    ('timm/resnet50.tv_in1k', 'timm/resnet18.tv_in1k', 'timm/resnet18d.ra2_in1k')
    """
    name = source.removeprefix(TORCHVISION)
    return f"timm/{name}.tv_in1k" if name in BACKBONES else source


def is_resnet(names: Iterable[str]) -> bool:
    """Tell whether the tensors of a file are those of a ResNet alone."""
    return any(FIRST.fullmatch(name) for name in names)


def common_names(names: Iterable[str]) -> dict[str, str]:
    """Return the common name of each tensor of a backbone, and the name it came by.

    Classification heads and counters of batches are left out; names of other networks stay as they
    are.

    Args:
        names: The names of all tensors of one file or module.
    """
    given = [n for n in names if not n.startswith(HEADS) and not n.endswith("num_batches_tracked")]
    deep = any(n.startswith("conv1.0.") for n in given)
    pooled = any(".downsample.2." in n for n in given)
    return {_common_name(name, deep=deep, pooled=pooled): name for name in given}


def _common_name(name: str, *, deep: bool, pooled: bool) -> str:
    name = name.removeprefix("resnet.")
    stem = _STEM_D if deep else _STEM
    for theirs, ours in stem.items():
        if name.startswith(theirs):
            return f"embedder.embedder.{ours}.{name.removeprefix(theirs)}"
    found = re.fullmatch(r"layer(\d)\.(\d+)\.([a-z]+)\.?(\d)\.(\w+)", name)
    if not found:
        return name.replace("shortcut.1.", "shortcut.")
    stage, block, kind, index, tensor = found.groups()
    place = f"encoder.stages.{int(stage) - 1}.layers.{block}"
    if kind == "downsample":
        part = "convolution" if int(index) == int(pooled) else "normalization"
        return f"{place}.shortcut.{part}.{tensor}"
    return f"{place}.layer.{int(index) - 1}.{_PARTS[kind]}.{tensor}"


_PARTS = {"conv": "convolution", "bn": "normalization"}
_STEM = {"conv1.": "convolution", "bn1.": "normalization"}
_STEM_D = {
    "conv1.0.": "0.convolution",
    "conv1.1.": "0.normalization",
    "conv1.3.": "1.convolution",
    "conv1.4.": "1.normalization",
    "conv1.6.": "2.convolution",
    "bn1.": "2.normalization",
}
