"""Foundation backbones: frozen networks of transformers whose features a student may learn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING

from edgedetr.distill.types import Pyramid
from edgedetr.distill.weights.hub_errors import UNREADABLE
from edgedetr.distill.weights.normalization import FILES, normalization_of
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = "model.safetensors"
STRIDE = 32
"""What sides of the input are multiples of where a backbone has no patches."""


@dataclass(frozen=True, eq=False)
class Foundation:
    """A frozen vision backbone.

    Attributes:
        network: In evaluation mode, without gradient.
        spec: Its mean and std; it takes inputs of any size.
        width: Channels of its last feature map.
        multiple: Height and width that sides of its input are multiples of.
    """

    network: nn.Module
    spec: ModelSpec
    width: int
    multiple: tuple[int, int]

    @torch.no_grad()
    def encode(self, images: Tensor) -> Pyramid:
        """Return the last feature map of (B, 3, H, W), which is stretched to whole patches."""
        hw = [
            -(-side // multiple) * multiple
            for side, multiple in zip(images.shape[-2:], self.multiple, strict=True)
        ]
        if hw != list(images.shape[-2:]):
            images = F.interpolate(images, hw, mode="bilinear", antialias=True)
        features = self.network(pixel_values=images).feature_maps[-1]
        return Pyramid((features,), (hw[0], hw[1]))


def open_foundation(source: str) -> Foundation:
    """Open a backbone of transformers.

    Args:
        source: A folder with ``config.json``, ``model.safetensors`` and
            ``preprocessor_config.json``, or a repository of the Hugging Face hub.

    Raises:
        ArtifactError: If it is missing or damaged, is no vision backbone, lacks weights, or does
            not say its mean and std.
    """
    network = _loaded(source)
    found = normalization_of(source)
    if found is None:
        raise ArtifactError(
            f"{source} has no {FILES[0]}, which says its mean and std; bring it as well"
        )
    network.requires_grad_(requires_grad=False).eval()
    patch = getattr(network.config, "patch_size", STRIDE)
    height, width = (patch, patch) if isinstance(patch, int) else patch
    spec = ModelSpec((height, width), ("features",), mean=found.mean, std=found.std)
    return Foundation(network, spec, int(network.channels[-1]), (height, width))


def _loaded(source: str) -> Any:  # noqa: ANN401 - transformers' own class
    path = Path(source)
    if not path.is_dir() and source.count("/") != 1:
        raise ArtifactError(
            f"no folder {source}; wanted one with config.json, {WEIGHTS} and {FILES[0]}, or a hub "
            "repository like facebook/dinov3-vits16-pretrain-lvd1689m"
        )
    try:
        config = AutoConfig.from_pretrained(source)
        kind: Any = MODEL_FOR_BACKBONE_MAPPING[type(config)]
        network, report = kind.from_pretrained(
            source, config=config, output_loading_info=True, use_safetensors=True
        )
    except UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0]
        raise ArtifactError(f"{source} is no vision backbone of transformers: {reason}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ArtifactError(
            f"{source} lacks {len(missing)} tensors of its backbone, {missing[0]} among them; "
            f"download {WEIGHTS} again"
        )
    return network
