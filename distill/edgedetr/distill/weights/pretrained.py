"""Weights that were trained elsewhere: of a backbone alone, or of a whole detector.

They come as safetensors, from a file or a repository of the Hugging Face hub. A pickle is refused:
it runs whatever code its author put in.
"""

from __future__ import annotations

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

from edgedetr.distill.networks.backbones import backbone_of
from edgedetr.distill.weights.checkpoint import MODEL_KEY
from edgedetr.distill.weights.hub_errors import UNREADABLE, from_hub
from edgedetr.distill.weights.resnet_names import common_names, hub_name
from edgedetr.distill.weights.source_config import CONFIG
from edgedetr.distill.weights.source_tensors import PICKLES, WEIGHTS
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import read_json
from edgedetr.runtime.hub import cache_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence


@torch.no_grad()
def load_backbone(network: nn.Module, source: str) -> None:
    """Fill a detector's backbone and freeze its batch norms, statistics and affine part.

    A ResNet may be named as torchvision, timm or transformers do; the backbone of another kind as
    transformers does. A classification head is left out.

    Args:
        network: The detector.
        source: A ``.safetensors`` file, a repository of the hub or a name like ``resnet18``.

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
def load_detector(
    network: nn.Module, source: str, left_out: Collection[str] = ()
) -> tuple[int, int]:
    """Fill a detector with every tensor of the same name and shape, in transformers' naming.

    Names that older versions of transformers wrote are known. Where the backbone is filled whole,
    its batch norms are frozen.

    Args:
        network: The detector.
        source: A ``.safetensors`` file or a repository of the hub.
        left_out: Tensors that stay fresh: what knows the classes, see `load_class_rows`.

    Returns:
        How many tensors were filled, of how many.

    Raises:
        ArtifactError: If the file is missing, a pickle or damaged, or fills less than half.
    """
    given = _in_todays_names(network, _tensors(source))
    tensors = {n: t for n, t in network.state_dict().items() if t.ndim}
    filled = set()
    for name, tensor in tensors.items():
        if name not in left_out and _shape(given, name) == tuple(tensor.shape):
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


@torch.no_grad()
def load_class_rows(
    network: nn.Module, source: str, heads: Collection[str], class_names: Sequence[str]
) -> tuple[str, ...]:
    """Fill the rows of class heads by the names of their classes.

    The names are those of ``id2label`` in the ``config.json`` beside the file; where there is none,
    or it does not fit, nothing tells which row is whose, and every row stays fresh.

    Args:
        network: A detector of transformers; in others no row is filled.
        source: A ``.safetensors`` file or a repository of the hub.
        heads: Names of its tensors that have a row for each class, and perhaps more behind.
        class_names: The detector's classes.

    Returns:
        The classes whose rows were filled.

    Raises:
        ArtifactError: If the file is missing, a pickle or damaged.
    """
    theirs = class_names_of(source)
    found = tuple(name for name in class_names if name in theirs)
    if not found or not isinstance(network, PreTrainedModel):
        return ()
    given, tensors = _in_todays_names(network, _tensors(source)), network.state_dict()
    more, named = len(theirs) - len(class_names), [name for name in heads if name in given]
    filled = {tensors[name].data_ptr() for name in named}  # of tied tensors a file has one
    if any(tensors[name].data_ptr() not in filled for name in heads) or any(
        _shape(given, name) != _with_rows(tensors[name], more) for name in named
    ):
        return ()
    mine, other = ([names.index(name) for name in found] for names in (list(class_names), theirs))
    for name in named:
        tensors[name][mine] = given[name][other].to(tensors[name])
        tensors[name][len(class_names) :] = given[name][len(theirs) :].to(tensors[name])
    return found


def _with_rows(tensor: Tensor, more: int) -> tuple[int, ...]:
    return (len(tensor) + more, *tensor.shape[1:])


def class_names_of(source: str) -> list[str]:
    """Return the classes that the ``config.json`` beside weights names; empty where none does.

    Raises:
        ArtifactError: If the weights are missing or a pickle.
    """
    path = local_file(source)
    try:
        labels = read_json(_config(path, source))["id2label"]
        return [str(labels[str(index)]) for index in range(len(labels))]
    except UNREADABLE:
        return []


def _config(path: Path, source: str) -> Path:
    """Return where the ``config.json`` of weights lies; of a hub repository it is downloaded."""
    from huggingface_hub import hf_hub_download

    beside = path.with_name(CONFIG)
    if Path(source).is_file() or beside.is_file():
        return beside
    return Path(hf_hub_download(source, CONFIG))


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
    source = hub_name(source)
    path = Path(source)
    if path.suffix in PICKLES:
        raise ArtifactError(
            f"{source} is a pickle, which may run code; convert it where you trust it: "
            "safetensors.torch.save_file(torch.load(PATH, weights_only=True), "
            f"'{path.stem}.safetensors')"
        )
    if path.is_dir():
        path /= WEIGHTS
    if path.is_file():
        return path
    if path.suffix == ".safetensors" or source.count("/") != 1:
        raise ArtifactError(
            f"no file {source}; wanted a .safetensors file, a hub repository like "
            "timm/resnet50d.ra2_in1k, or a backbone of torchvision like resnet50"
        )
    return _downloaded(source)


def _downloaded(repository: str) -> Path:
    """Return the weights of a hub repository; what the cache holds needs no network."""
    from huggingface_hub import hf_hub_download

    brought = cache_folder("hub") / repository / WEIGHTS
    if brought.is_file():
        return brought
    elsewhere = f"download its {WEIGHTS} elsewhere and name the file, or put it into"
    with from_hub(repository, f"{elsewhere} {brought.parent}"):
        return Path(hf_hub_download(repository, WEIGHTS))


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
