"""Weights on disk: one safetensors file that says itself which model it holds, and a manifest."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_model as save_weights

from edgedetr.distill.model import Architecture, Model, new_model
from edgedetr.distill.networks.fake_quantization import (
    QUANTIZATION_KEY,
    learn_steps,
    quantization_from_json,
)
from edgedetr.distill.networks.reparameterize import is_reparameterized, reparameterize
from edgedetr.distill.networks.transformers_model import bounded
from edgedetr.distill.weights.normalization import BACKBONE_KEY
from edgedetr.distill.weights.resnet_names import is_resnet
from edgedetr.distill.weights.tensor_file import tensor_path
from edgedetr.runtime.errors import ArtifactError, SettingsError
from edgedetr.runtime.manifest import Manifest, versions_of, write_manifest
from edgedetr.runtime.settings import settings_from_dict
from edgedetr.runtime.spec import METADATA_KEY, spec_from_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MODEL_KEY = "edgedetr.model"
"""Key of ``{"family", "preset"}`` in the file's metadata."""

MERGED_KEY = "edgedetr.merged"
"""Key that says that the network's layers are merged, see `reparameterize`."""

ARCHITECTURE_KEY = "edgedetr.architecture"
"""Key of the `Architecture` of an imported model."""

BACKBONE_ALONE = "{} is a backbone alone, no detector; name it in student.backbone_weights"
PACKAGES = ("edgedetr", "torch", "torchvision", "transformers")


def save_model(
    path: str | os.PathLike[str],
    model: Model,
    *,
    command: str,
    parents: Iterable[Path] = (),
    summary: str = "",
) -> Manifest:
    """Write a model's weights, the same bytes for the same model, and the manifest beside them.

    Args:
        path: The ``.safetensors`` file.
        model: Its network is written whole; adapters and teachers are not part of it.
        command: What made it.
        parents: Files that it was made from.
        summary: One line for a reader.
    """
    path = Path(path)
    metadata = {
        METADATA_KEY: model.spec.to_json(),
        MODEL_KEY: json.dumps(asdict(_Kind(model.family, model.preset))),
    }
    if model.architecture is not None:
        metadata[ARCHITECTURE_KEY] = json.dumps(asdict(model.architecture), sort_keys=True)
    if is_reparameterized(model.network):
        metadata[MERGED_KEY] = "true"
    if model.quantization is not None:
        metadata[QUANTIZATION_KEY] = model.quantization.to_json()
    with tensor_path(path) as temporary:
        save_weights(model.network, temporary, metadata)
    return write_manifest(
        path,
        kind="checkpoint",
        command=command,
        spec=model.spec,
        versions=versions_of(PACKAGES),
        parents=parents,
        summary=summary,
    )


def load_model(path: str | os.PathLike[str]) -> Model:
    """Read a model, in evaluation mode, on the CPU.

    Raises:
        ArtifactError: If the file is missing, damaged or does not hold a model of this project, or
            its weights are not finite.
    """
    path = Path(path)
    metadata = _metadata(path)
    try:
        kind = settings_from_dict(_Kind, json.loads(metadata[MODEL_KEY]), MODEL_KEY)
        spec = spec_from_json(metadata[METADATA_KEY], METADATA_KEY)
        architecture = _architecture(metadata)
    except (ValueError, RecursionError, SettingsError) as error:
        raise ArtifactError(f"{path}: its metadata is damaged: {error}") from error
    most = path.stat().st_size // 2  # numbers in FP16; an architecture may be hostile
    with bounded(most) if architecture else nullcontext():
        model = new_model(kind.family, kind.preset, spec, architecture)
    if QUANTIZATION_KEY in metadata:
        quantization = quantization_from_json(metadata[QUANTIZATION_KEY], str(path))
        model = replace(model, quantization=quantization)
    if MERGED_KEY in metadata:
        reparameterize(model.network)
    if model.quantization is not None:
        learn_steps(model.network, model.quantization)
    try:
        load_weights(model.network, os.fspath(path))
    except (RuntimeError, SafetensorError) as error:
        raise ArtifactError(
            f"{path} does not fit {kind.family}/{kind.preset}: {str(error).splitlines()[0]}"
        ) from error
    _require_finite(model, path)
    model.network.eval()
    return model


def _metadata(path: Path) -> Mapping[str, str]:
    """Return what a checkpoint says of itself; raises ArtifactError where the file is none."""
    if not path.is_file():
        raise missing_checkpoint(path)
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            names = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} is no readable safetensors file: {error}") from error
    if BACKBONE_KEY in metadata or (MODEL_KEY not in metadata and is_resnet(names)):
        raise ArtifactError(BACKBONE_ALONE.format(path))
    if METADATA_KEY not in metadata or MODEL_KEY not in metadata:
        raise ArtifactError(
            f"{path} does not say which model it holds; wanted an EdgeDETR checkpoint (edgedetr "
            "import makes one of a model of another library)"
        )
    return metadata


def _architecture(metadata: Mapping[str, str]) -> Architecture | None:
    """Return what an imported network is made of; None where a preset says it."""
    if ARCHITECTURE_KEY not in metadata:
        return None
    values = json.loads(metadata[ARCHITECTURE_KEY])
    return settings_from_dict(Architecture, values, ARCHITECTURE_KEY)


def missing_checkpoint(path: Path) -> ArtifactError:
    """Return the error of a checkpoint that does not exist."""
    return ArtifactError(f"no checkpoint {path}; train one with: edgedetr distill train CONFIG")


def _require_finite(model: Model, path: Path) -> None:
    for name, tensor in model.network.named_parameters():
        if not tensor.isfinite().all():
            raise ArtifactError(f"{path}: {name} is not finite everywhere; train the model again")


@dataclass(frozen=True)
class _Kind:
    family: str
    preset: str
