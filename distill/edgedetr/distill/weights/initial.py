"""The weights that a student starts from: a checkpoint, or a detector in transformers' naming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from edgedetr.distill.model import IMPORTED, Model, new_model, same_kind
from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.distill.weights.imported_cache import local_checkpoint
from edgedetr.distill.weights.pretrained import is_checkpoint, load_class_rows, load_detector
from edgedetr.distill.weights.selection import class_tensors, inherit
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from edgedetr.runtime.spec import ModelSpec


def model_from(source: str, family: str, preset: str, spec: ModelSpec) -> Model:
    """Make a model with the weights of a source, and report what was taken over.

    Args:
        source: A checkpoint of this project, a ``.safetensors`` file in transformers' naming, a
            folder of transformers or a repository of the hub.
        family: Of the model; a checkpoint must be of the same.
        preset: Of the model; a checkpoint must be of the same. With `IMPORTED` a foreign model is
            imported whole, of whatever size it is; with another, the tensors that fit are taken.
        spec: Input and classes of the model; those of a checkpoint may be others.

    Raises:
        UnknownNameError: If there is no such family or preset.
        ArtifactError: If the source is missing, damaged or of another detector.
    """
    if preset == IMPORTED or Path(source).is_dir():
        source = str(local_checkpoint(source))
    if is_checkpoint(source):
        return _from_checkpoint(source, family, preset, spec)
    model = new_model(family, preset, spec)
    _fill(model, source)
    return model


def _from_checkpoint(source: str, family: str, preset: str, spec: ModelSpec) -> Model:
    """Load a checkpoint; where its classes are others, take over the tensors that fit."""
    model = load_model(Path(source))
    if (model.family, model.preset) != (family, preset):
        raise ArtifactError(
            f"{source} holds {model.family}/{model.preset}, the config wants {family}/{preset}; "
            f'set student.family = "{model.family}" and student.preset = "{model.preset}"'
        )
    if model.spec.class_names != spec.class_names:
        other = model
        model = same_kind(other, spec)
        copied = inherit(model, other)
        tqdm.write(f"{source} was trained on other classes: {len(copied)} tensors taken over")
    return replace(model, spec=spec, quantization=None)


def _fill(model: Model, source: str) -> None:
    """Fill a student from weights in transformers' naming, and report what was filled."""
    heads = class_tensors(model)
    filled, count = load_detector(model.network, source, heads)
    names = load_class_rows(model.network, source, heads, model.spec.class_names)
    fresh = [name for name in model.spec.class_names if name not in names]
    rows = [f"class rows by name: {', '.join(names)}"] * bool(names)
    rows += [f"class rows that start fresh: {', '.join(fresh)}"] * bool(fresh)
    tqdm.write(
        f"{source} fills {filled + len(heads) * bool(names)} of the student's {count} tensors; "
        f"{'; '.join(rows)}"
    )
