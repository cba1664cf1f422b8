"""The weights that a student starts from: a checkpoint, or a detector in transformers' naming."""

from __future__ import annotations

import sys
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from edgedetr.distill.model import IMPORTED, Model, new_model, same_kind
from edgedetr.distill.networks.fake_quantization import forget_steps
from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.distill.weights.class_rows import rows_by_name
from edgedetr.distill.weights.imported_cache import local_checkpoint
from edgedetr.distill.weights.inheritance import class_tensors, inherit
from edgedetr.distill.weights.normalization import normalization_of
from edgedetr.distill.weights.pretrained import (
    class_names_of,
    is_checkpoint,
    load_class_rows,
    load_detector,
)
from edgedetr.distill.weights.source_backbone import refuse_backbone
from edgedetr.distill.weights.torchvision_detector import detector_name
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.runtime.spec import ModelSpec


def model_from(
    source: str,
    family: str,
    preset: str,
    spec: ModelSpec,
    names: Sequence[Sequence[str]] = (),
) -> Model:
    """Make a model with the weights of a source, and report what was taken over.

    Class rows are taken over by name, and mean and std are those of the source.

    Args:
        source: A checkpoint of this project, a ``.safetensors`` file in transformers' naming, a
            folder of transformers or a repository of the hub.
        family: Of the model; a checkpoint must be of the same.
        preset: Of the model; a checkpoint must be of the same. With `IMPORTED` a foreign model is
            imported whole, of whatever size it is; with another, the tensors that fit are taken.
        spec: Input and classes of the model; those of a checkpoint may be others.
        names: What the source may call each class beside its own name, the first that it knows.

    Raises:
        UnknownNameError: If there is no such family or preset.
        ArtifactError: If the source is missing, damaged or of another detector.
    """
    others = names or [()] * len(spec.class_names)
    known = [(own, *some) for own, some in zip(spec.class_names, others, strict=True)]
    refuse_backbone(source)
    if preset == IMPORTED or Path(source).is_dir() or detector_name(source):
        source = str(local_checkpoint(source))
    if is_checkpoint(source):
        return _from_checkpoint(source, family, preset, spec, known)
    if preset == IMPORTED:
        raise ArtifactError(
            f"{source} does not say its architecture; name the folder that holds it with its "
            "config.json, or what edgedetr import made of it"
        )
    model = new_model(family, preset, spec)
    _fill(model, source, known)
    found = normalization_of(source)
    if found is None:
        tqdm.write(_SILENT.format(source), file=sys.stderr)
        return model
    return replace(model, spec=replace(spec, mean=found.mean, std=found.std))


def _from_checkpoint(
    source: str, family: str, preset: str, spec: ModelSpec, names: Sequence[tuple[str, ...]]
) -> Model:
    """Load a checkpoint; where its classes are others, take over the tensors that fit."""
    model = load_model(Path(source))
    if (model.family, model.preset) != (family, preset):
        raise ArtifactError(
            f"{source} holds {model.family}/{model.preset}, the config wants {family}/{preset}; "
            f'set student.family = "{model.family}" and student.preset = "{model.preset}"'
        )
    theirs = model.spec
    if theirs.class_names != spec.class_names:
        other = model.with_classes([_first_of(some, theirs.class_names) for some in names])
        model = same_kind(other, spec)
        copied = inherit(model, other)
        rows = rows_by_name(model, other)
        taken = [n for n, row in zip(spec.class_names, rows, strict=True) if row is not None]
        tqdm.write(
            f"{source} was trained on other classes: {len(copied)} tensors taken over; "
            f"{_rows(spec.class_names, taken, theirs.class_names)}"
        )
    spec = replace(spec, mean=theirs.mean, std=theirs.std, pad_value=theirs.pad_value)
    _report_input(source, theirs, spec)
    forget_steps(model.network)
    return replace(model, spec=spec, quantization=None)


def _fill(model: Model, source: str, names: Sequence[tuple[str, ...]]) -> None:
    """Fill a student from weights in transformers' naming, and report what was filled."""
    heads = class_tensors(model)
    filled, count = load_detector(model.network, source, heads)
    theirs = class_names_of(source)
    chosen = [(*_first_of(some, theirs), some[0])[0] for some in names]
    found = load_class_rows(model.network, source, heads, chosen)
    own = model.spec.class_names
    taken = [name for name, other in zip(own, chosen, strict=True) if other in found]
    tqdm.write(
        f"{source} fills {filled + len(heads) * bool(found)} of the student's {count} tensors; "
        f"{_rows(own, taken, theirs)}"
    )


def _first_of(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the first name that is known, or nothing."""
    return tuple(name for name in names if name in known)[:1]


def _rows(own: Sequence[str], taken: Sequence[str], theirs: Sequence[str]) -> str:
    """Say which class rows were taken over and which start fresh, with the names they may have."""
    fresh = [name for name in own if name not in taken]
    said = [f"class rows by name: {', '.join(taken)}"] * bool(taken)
    said += [f"class rows that start fresh: {', '.join(fresh)}"] * bool(fresh)
    lower = {name.lower(): name for name in theirs}
    for name in fresh:
        near = get_close_matches(name.lower(), lower, n=1)
        if near:
            other = lower[near[0]]
            said.append(f'if {name} is its {other}, set class_map.{name} = "{other}"')
            break
    return "; ".join(said)


def _report_input(source: str, theirs: ModelSpec, spec: ModelSpec) -> None:
    """Say that a model is trained on another input than its weights were."""
    was, now = (f"{s.input_hw[0]} x {s.input_hw[1]} {s.resize}" for s in (theirs, spec))
    if was != now:
        tqdm.write(f"{source} was trained on inputs of {was} (H x W), the student's are {now}")


_SILENT = (
    "warning: no file beside {} says its mean and std; the student has mean 0 and std 1: set "
    "student.mean and student.std if it was trained otherwise"
)
