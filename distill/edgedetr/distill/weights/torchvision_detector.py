"""Detectors of torchvision: by name, or as a safetensors file of their tensors.

torchvision publishes pickles. By its name a model is downloaded as torchvision does, with its hash
and with nothing read but tensors, and written as safetensors once; a pickle that somebody names is
not opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torchvision.models import get_model_weights

from edgedetr.distill.model import IMPORTED, Architecture, Model, new_model
from edgedetr.distill.networks.torchvision_model import EPS, FAMILIES, MODEL
from edgedetr.distill.weights.source_config import labels_beside, named_rows
from edgedetr.distill.weights.source_preprocessor import MEAN, STD
from edgedetr.distill.weights.source_tensors import require_finite
from edgedetr.distill.weights.tensor_file import tensor_path
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import sha256
from edgedetr.runtime.hub import TORCHVISION, cache_folder
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

INPUT_HW = (800, 1344)
"""Pixels of the input: torchvision's 800 and 1333, filled up to a multiple of `STRIDE`."""
STRIDE = 32
ANCHORS = 9
"""Of a cell of RetinaNet."""
LIVE_EPS = 1e-5
"""What batch norms add to the variance; the first published models were trained without."""
OLD_EPS = {"fasterrcnn_resnet50_fpn": 0.0, "retinanet_resnet50_fpn": 0.0}


def detector_name(source: str) -> str | None:
    """Return the name of a detector of torchvision; None where a source is something else.

    >>> detector_name("torchvision:fcos_resnet50_fpn"), detector_name("resnet50")
    ('fcos_resnet50_fpn', None)
    """
    name = source.removeprefix(TORCHVISION)
    return name if name in FAMILIES and not Path(source).exists() else None


def detector_file(name: str) -> Path:
    """Return the tensors of a published detector as safetensors; they are downloaded once.

    Raises:
        ArtifactError: If it cannot be downloaded, or is not what torchvision published.
    """
    path = cache_folder("hub") / "torchvision" / f"{name}.safetensors"
    if path.is_file():
        return path
    weights = get_model_weights(name).DEFAULT
    pickled = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    published = pickled.stem.rpartition("-")[2]
    try:
        given = weights.get_state_dict(
            progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ArtifactError(
            f"{name} of torchvision cannot be had ({reason}); without a network, download "
            f"{weights.url} elsewhere and put it into {pickled.parent}"
        ) from error
    if not sha256(pickled).startswith(published):
        raise ArtifactError(f"{pickled} is not what torchvision published; remove it and try again")
    with tensor_path(path) as temporary:
        save_file({key: value.contiguous() for key, value in given.items()}, temporary)
    return path


def published_name(tensors: Mapping[str, Tensor]) -> str | None:
    """Tell which of torchvision's detectors has tensors of these names; None where none has."""
    head = "head.regression_head."
    if "roi_heads.box_predictor.cls_score.weight" in tensors:
        has_norm = "backbone.fpn.inner_blocks.0.1.weight" in tensors
        return f"fasterrcnn_resnet50_fpn{'_v2' * has_norm}"
    if f"{head}bbox_ctrness.weight" in tensors:
        return "fcos_resnet50_fpn"
    if f"{head}bbox_reg.weight" in tensors:
        return f"retinanet_resnet50_fpn{'_v2' * (f'{head}conv.0.1.weight' in tensors)}"
    return None


def read_detector(
    path: Path,
    name: str,
    tensors: Mapping[str, Tensor],
    *,
    query_fade: bool,
    input_hw: tuple[int, int] | None,
) -> Model:
    """Read a detector of torchvision.

    Args:
        path: Its file; a ``config.json`` beside it may name the classes in ``id2label``, the
            background's row with them.
        name: Which it is.
        tensors: What the file holds.
        query_fade: Whether its predictions get the query fade, which these families do not have.
        input_hw: Height and width of its input, in pixels; None takes `INPUT_HW`.

    Raises:
        ArtifactError: If it is not whole, does not name its classes or has an input of odd size.
        UsageError: If the query fade is wanted.
    """
    require_finite(tensors, path)
    hw = input_hw or INPUT_HW
    if any(side % STRIDE for side in hw):
        raise ArtifactError(
            f"{path}: an input of {hw[0]} x {hw[1]}, wanted multiples of {STRIDE}, to which "
            "torchvision fills images up"
        )
    family = FAMILIES[name]
    columns = _columns(tensors, family, path)
    categories = list(get_model_weights(name).DEFAULT.meta["categories"])
    labels = labels_beside(path, columns, categories)
    if family == "faster_rcnn":  # its network knows the background apart from its classes
        labels = labels[1:]
    class_names, class_rows = named_rows(labels, path)
    spec = ModelSpec(
        hw,
        class_names,
        resize="letterbox",
        mean=MEAN,
        std=STD,
        pad_value=round(255 * sum(MEAN) / 3),
    )
    config: dict[str, Any] = {MODEL: name, EPS: _eps(name, tensors)}
    architecture = Architecture(config, len(labels), class_rows, query_fade)
    try:
        return new_model(family, IMPORTED, spec, architecture, tensors)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error


def _columns(tensors: Mapping[str, Tensor], family: str, path: Path) -> int:
    """Return how many columns the class head has, the background's among them."""
    two_stage = family == "faster_rcnn"
    name = (
        "roi_heads.box_predictor.cls_score.bias"
        if two_stage
        else "head.classification_head.cls_logits.bias"
    )
    if name not in tensors:
        raise ArtifactError(f"{path}: {name} is missing; bring the whole file")
    return len(tensors[name]) // (ANCHORS if family == "retinanet" else 1)


def _eps(name: str, tensors: Mapping[str, Tensor]) -> float | None:
    """Return what its frozen norms add to the variance; None where its norms are live."""
    if name.endswith("_v2"):
        return None
    was_live = any(key.endswith("num_batches_tracked") for key in tensors)
    return LIVE_EPS if was_live else OLD_EPS.get(name, LIVE_EPS)
