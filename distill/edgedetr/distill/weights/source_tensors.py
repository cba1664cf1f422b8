"""The tensors of a model from elsewhere: one safetensors file, or several and an index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl")
"""Files that are not opened: a pickle runs whatever code its author put in."""


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return all tensors of a folder, mapped into memory.

    Raises:
        ArtifactError: If a file is missing, damaged or a pickle, or a tensor is not finite.
    """
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        if not path.is_file():
            raise ArtifactError(f"{path} is missing: a part of the weights; download it as well")
        tensors |= tensors_of(path)
    require_finite(tensors, folder)
    return tensors


def require_finite(tensors: Mapping[str, Tensor], place: Path) -> None:
    """Stop unless every number is finite.

    Raises:
        ArtifactError: If one is not; it names the tensor and ``place``.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ArtifactError(f"{place}: {name} is not finite everywhere; download it again")


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, mapped into memory.

    Raises:
        ArtifactError: If it is damaged.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(
            f"{path} is no readable safetensors file ({error}), perhaps half of a download; "
            "download it again"
        ) from error


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a folder, whether or not they are all there.

    Raises:
        ArtifactError: If there is none, or the index of several is damaged.
    """
    whole, index = folder / WEIGHTS, folder / INDEX
    if whole.is_file() or not index.is_file():
        _require(folder, whole)
        return [whole]
    try:
        parts = {str(name) for name in read_json(index)["weight_map"].values()}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ArtifactError(f"{index}: no readable index of weights: {error}") from error
    if any("/" in name or "\\" in name for name in parts) or not parts:
        raise ArtifactError(f"{index}: names no files beside it; download it again")
    return [folder / name for name in sorted(parts)]


def _require(folder: Path, whole: Path) -> None:
    """Refuse a folder without safetensors, and say what else lies there."""
    if whole.is_file():
        return
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
    if pickles:
        raise ArtifactError(
            f"{folder} has its weights as the pickle {pickles[0]}, which may run code; write them "
            f"as {WEIGHTS} where you trust it: model.save_pretrained(FOLDER)"
        )
    raise ArtifactError(f"{whole} is missing; bring it, or {INDEX} and the files that it names")
