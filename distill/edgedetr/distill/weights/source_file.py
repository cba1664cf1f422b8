"""One safetensors file of another library that says its architecture by its tensors alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from edgedetr.distill.detectors.d_fine import HEAD_ACTIVATION, configuration
from edgedetr.distill.model import IMPORTED, Architecture, Model, new_model
from edgedetr.distill.weights.rt_detr_v4_names import PROJECTOR, in_names_of_transformers
from edgedetr.distill.weights.source_config import (
    CONFIG,
    LEFT_OUT,
    NO_EC_VIT,
    labels_beside,
    named_rows,
)
from edgedetr.distill.weights.source_tensors import require_finite, tensors_of
from edgedetr.distill.weights.torchvision_detector import published_name, read_detector
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

SIZES = {16: "small", 32: "medium", 48: "large", 64: "xlarge"}
"""RT-DETRv4-S, M, L and X as presets of D-FINE, by the channels that leave the stem."""
STEM = "backbone.stem.stem4.conv.weight"
INPUT_HW = (640, 640)
"""Pixels of the input that all four sizes were trained for; they are not normalized."""
COCO = [
    name
    for name in FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
    if name not in {"__background__", "N/A"}
]
"""The 80 classes of the published weights, in the order of their rows."""
EC_VIT = "backbone.backbone.register_token"
"""A tensor of ECDet's backbone alone."""


def read_file(
    path: Path, *, query_fade: bool = False, input_hw: tuple[int, int] | None = None
) -> Model:
    """Read the model of a safetensors file with the names of torchvision or RT-DETRv4.

    Args:
        path: The file. A ``config.json`` beside it may name the classes in ``id2label``.
        query_fade: Whether its predictions get the query fade.
        input_hw: Height and width of its input, in pixels; None takes the published model's.

    Raises:
        ArtifactError: If the file is damaged, of another architecture, or not whole.
    """
    given = tensors_of(path)
    name = published_name(given)
    if name is not None:
        return read_detector(path, name, given, query_fade=query_fade, input_hw=input_hw)
    _require_rt_detr_v4(path, given)
    try:
        tensors = in_names_of_transformers(given)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}; bring the file as it was published") from error
    require_finite(tensors, path)
    values, rows = _configuration(path, given)
    class_names, class_rows = named_rows(labels_beside(path, rows, COCO), path)
    spec = ModelSpec(input_hw or INPUT_HW, class_names, resize="stretch", antialias=True)
    architecture = Architecture(values, rows, class_rows, query_fade)
    try:
        model = new_model("d_fine", IMPORTED, spec, architecture, tensors)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error
    foreign = sorted(tensors.keys() - model.network.state_dict().keys())
    if foreign:
        raise ArtifactError(
            f"{path}: {len(foreign)} tensors have no place in RT-DETRv4 of this size, such as "
            f"{', '.join(foreign[:3])}; bring the file as it was published"
        )
    return model


def _require_rt_detr_v4(path: Path, tensors: Mapping[str, Tensor]) -> None:
    if EC_VIT in tensors:
        raise ArtifactError(f"{path} is of ECDet: {NO_EC_VIT}")
    if STEM not in tensors:
        raise ArtifactError(
            f"{path} is a single file, and its tensors are neither RT-DETRv4's nor those of a "
            f"detector of torchvision or of a ResNet (the first is {min(tensors, default='none')})"
            f"; bring the folder with {CONFIG} as well"
        )
    if not any(name.startswith(PROJECTOR) for name in tensors):
        raise ArtifactError(
            f"{path} lacks {PROJECTOR}0.weight, which tells RT-DETRv4 from D-FINE and DEIM, whose "
            "heads compute otherwise under the same names; bring RT-DETRv4 as it was published, or "
            "D-FINE from the hub, like ustc-community/dfine-large-coco"
        )


def _configuration(path: Path, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], int]:
    """Return the values of D-FINE's config, and how many rows the class heads have."""
    width = len(tensors[STEM])
    score, scale = tensors.get("decoder.enc_score_head.bias"), tensors.get("decoder.reg_scale")
    if width not in SIZES or score is None or scale is None:
        missing = "decoder.enc_score_head.bias" if score is None else "decoder.reg_scale"
        raise ArtifactError(
            f"{path}: no RT-DETRv4 has a stem of {width} channels; the published sizes have "
            f"{', '.join(map(str, SIZES))}"
            if width not in SIZES
            else f"{path}: {missing} is missing; bring the whole file"
        )
    config = configuration(SIZES[width], len(score))
    config.backbone_config.use_learnable_affine_block = any(".lab." in name for name in tensors)
    config.decoder_activation_function = "silu"
    config.reg_scale = float(scale)
    values = {key: v for key, v in config.to_diff_dict().items() if key not in LEFT_OUT}
    return {**values, HEAD_ACTIVATION: "silu"}, len(score)
