"""The models of a run: the student, fresh or from weights, and the frozen teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from edgedetr.distill.model import Model, new_model
from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.distill.weights.pretrained import (
    is_checkpoint,
    load_backbone,
    load_class_rows,
    load_detector,
)
from edgedetr.distill.weights.selection import class_tensors, inherit
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from edgedetr.distill.config import StudentConfig, TeacherConfig


def open_student(config: StudentConfig, class_names: tuple[str, ...]) -> Model:
    """Make the student with fresh weights, or with those that its section of the config names.

    Raises:
        UnknownNameError: If there is no such family or preset.
        ArtifactError: If a file of weights is missing, damaged or of another detector.
    """
    spec = ModelSpec(input_hw=config.input_hw, class_names=class_names, resize=config.resize)
    if config.init and is_checkpoint(config.init):
        return _from_checkpoint(config, spec)
    model = new_model(config.family, config.preset, spec)
    if config.init:
        _fill(model, config.init)
    if config.backbone_weights:
        load_backbone(model.network, config.backbone_weights)
    return model


def _from_checkpoint(config: StudentConfig, spec: ModelSpec) -> Model:
    """Load a checkpoint; where its classes are others, take over the tensors that fit."""
    model = load_model(Path(config.init))
    if (model.family, model.preset) != (config.family, config.preset):
        raise ArtifactError(
            f"{config.init} holds {model.family}/{model.preset}, the config wants "
            f"{config.family}/{config.preset}"
        )
    if model.spec.class_names != spec.class_names:
        other = model
        model = new_model(config.family, config.preset, spec)
        copied = inherit(model, other)
        tqdm.write(f"{config.init} was trained on other classes: {len(copied)} tensors taken over")
    return Model(model.family, model.preset, spec, model.network)


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


def open_teacher(config: TeacherConfig) -> Model | None:
    """Load the frozen teacher, if there is one, with its outputs in the student's classes.

    Raises:
        ArtifactError: If its file is missing or damaged, or it does not know one of the classes.
    """
    if not config.checkpoint:
        return None
    teacher = replace(load_model(Path(config.checkpoint)), quantization=None)
    teacher.network.requires_grad_(requires_grad=False)
    known = teacher.spec.class_names
    unknown = [name for name in config.class_names if name not in known]
    if unknown:
        raise ArtifactError(
            f"{config.checkpoint} knows the classes {', '.join(known)}, not "
            f"{', '.join(unknown)}; name the teacher's class of each in [class_map], "
            f'like {unknown[0]} = "{known[0]}"'
        )
    return teacher.with_classes(config.class_names)
