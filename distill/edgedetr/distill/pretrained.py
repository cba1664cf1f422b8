"""Weights that were trained elsewhere: of a backbone alone, or of a whole detector.

They come as safetensors, from a file or a repository of the Hugging Face hub. A pickle is refused:
it runs whatever code its author put in.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key

from edgedetr.distill.backbone_names import common_names
from edgedetr.distill.backbones import backbone_of
from edgedetr.distill.checkpoint import MODEL_KEY
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import read_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl")
HUB_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


@torch.no_grad()
def load_backbone(network: nn.Module, source: str) -> None:
    """Fill a detector's backbone and freeze its batch norms, statistics and affine part.

    A ResNet may be named as torchvision, timm or transformers do; the backbone of another kind as
    transformers does. A classification head is left out.

    Args:
        network: The detector.
        source: A ``.safetensors`` file or a repository of the hub.

    Raises:
        ArtifactError: If the file is missing, a pickle or damaged, or holds another backbone.
    """
    backbone = backbone_of(network)
    theirs = _tensors(source)
    names = common_names(theirs)
    given = {common: theirs[name] for common, name in names.items()}
    tensors = backbone.state_dict()
    wanted = {common: tensors[name] for common, name in common_names(tensors).items()}
    given |= _plain_shortcuts(wanted, given)
    wrong = [
        f"{names.get(name, name)} is {found or 'missing'}, wanted {shape or 'none'}"
        for name in sorted(wanted.keys() | given.keys())
        if (found := _shape(given, name)) != (shape := _shape(wanted, name))
    ]
    if wrong:
        raise ArtifactError(
            f"{source} holds another backbone than {type(backbone).__name__} of this preset: "
            f"{'; '.join(wrong[:3])}{' and more' if len(wrong) > 3 else ''}; take weights of the "
            "same architecture (RT-DETR's ResNets are timm's resnet18d, resnet50d and so on)"
        )
    for name, tensor in wanted.items():
        tensor.copy_(given[name])
    freeze_batch_norms(backbone)


@torch.no_grad()
def load_detector(network: nn.Module, source: str, fresh: Collection[str] = ()) -> tuple[int, int]:
    """Fill a detector with every tensor of the same name and shape, in transformers' naming.

    Names that older versions of transformers wrote are known. Class heads of another number of
    classes stay fresh, as their shape is another. Where the backbone is filled whole, its batch
    norms are frozen.

    Args:
        network: The detector.
        source: A ``.safetensors`` file or a repository of the hub.
        fresh: Names of tensors that stay as they are.

    Returns:
        How many tensors were filled, of how many.

    Raises:
        ArtifactError: If the file is missing, a pickle or damaged, or fills less than half.
    """
    given = _in_todays_names(network, _tensors(source))
    tensors = {n: t for n, t in network.state_dict().items() if t.ndim}
    filled = set()
    for name, tensor in tensors.items():
        if name not in fresh and _shape(given, name) == tuple(tensor.shape):
            tensor.copy_(given[name])
            filled.add(tensor.data_ptr())  # tied tensors share it
    count = sum(t.data_ptr() in filled for t in tensors.values())
    if 2 * count < len(tensors):
        raise ArtifactError(
            f"{source} fills {count} of {len(tensors)} tensors of this preset, less than half; "
            "choose weights of the same family and size"
        )
    backbone = backbone_of(network)
    if all(t.data_ptr() in filled for t in backbone.state_dict().values() if t.ndim):
        freeze_batch_norms(backbone)
    return count, len(tensors)


def named_classes(source: str) -> tuple[str, ...] | None:
    """Return the classes of a detector's weights, by the ``id2label`` of the config beside them.

    Args:
        source: A ``.safetensors`` file or a repository of the hub.

    Returns:
        The names in the order of the class head; None where nothing says them.

    Raises:
        ArtifactError: If there is a config that is damaged.
    """
    beside = local_file(source).with_name(CONFIG_FILE)
    if not beside.is_file():
        if Path(source).is_file():
            return None
        try:
            beside = _downloaded(source, CONFIG_FILE)
        except ArtifactError:
            return None
    try:
        labels = json.loads(read_text(beside)).get("id2label")
        if labels is None:
            return None
        return tuple(str(name) for _, name in sorted((int(i), n) for i, n in labels.items()))
    except (ValueError, AttributeError, RecursionError) as error:
        raise ArtifactError(
            f"{beside} is no config of transformers ({error}); remove it or mend it"
        ) from error


def freeze_batch_norms(module: nn.Module) -> None:
    """Replace every batch norm inside by one whose statistics and affine part stay as they are."""
    for name, child in list(module.named_modules()):
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, child.eps)
            frozen.load_state_dict(child.state_dict())
            parent, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(parent), attribute, frozen.to(child.weight.device))


def is_checkpoint(source: str) -> bool:
    """Tell whether a source is one of this project's files, as far as can be told.

    A ``.safetensors`` file that is missing or damaged counts as one.
    """
    path = Path(source)
    if not path.is_file() or path.suffix in PICKLES:
        return path.suffix == ".safetensors"
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            return MODEL_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return True


def local_file(source: str) -> Path:
    """Return the file of a source; one of the hub is downloaded once.

    Raises:
        ArtifactError: If there is none, or it is a pickle.
    """
    path = Path(source)
    if path.suffix in PICKLES:
        raise ArtifactError(
            f"{source} is a pickle, which may run code; convert it where you trust it: "
            "safetensors.torch.save_file(torch.load(PATH, weights_only=True), "
            f"'{path.stem}.safetensors')"
        )
    if path.is_file():
        return path
    if path.suffix == ".safetensors" or source.count("/") != 1:
        raise ArtifactError(
            f"no file {source}; wanted a .safetensors file or a hub repository like timm/resnet50d"
        )
    return _downloaded(source)


def _downloaded(repository: str, name: str = HUB_FILE) -> Path:
    """Return a file of a hub repository; what the cache holds needs no network."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(repository, name))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ArtifactError(
            f"no {name} of hub repository {repository} ({reason}); where there is no network, "
            "download it elsewhere and name the file"
        ) from error


def _tensors(source: str) -> dict[str, Tensor]:
    path = local_file(source)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{source} is no readable safetensors file: {error}") from error


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None


def _plain_shortcuts(
    wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return identities for shortcuts that are plain in the file.

    RT-DETR's ResNet-D of basic blocks convolves the first shortcut, where timm's adds the input.
    """
    place = "encoder.stages.0.layers.0.shortcut."
    weight = f"{place}convolution.weight"
    if weight not in wanted or len(wanted[weight]) != wanted[weight].shape[1]:
        return {}
    if any(name.startswith(place) for name in given):
        return {}
    width = len(wanted[weight])
    return {
        weight: torch.eye(width).reshape(width, width, 1, 1),
        f"{place}normalization.weight": torch.ones(width),
        f"{place}normalization.bias": torch.zeros(width),
        f"{place}normalization.running_mean": torch.zeros(width),
        f"{place}normalization.running_var": torch.ones(width),
    }


def _in_todays_names(network: nn.Module, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename what older versions of transformers called otherwise."""
    renamings: Iterable[WeightRenaming] = ()
    if isinstance(network, PreTrainedModel):
        known = get_model_conversion_mapping(network)
        renamings = [x for x in known if isinstance(x, WeightRenaming)]
    return {rename_source_key(name, list(renamings), [])[0]: t for name, t in given.items()}
