"""The models of a run: the student, fresh or from weights, and the frozen teacher."""

from __future__ import annotations

import sys
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from tqdm import tqdm

from edgedetr.distill.model import new_model
from edgedetr.distill.networks.fake_quantization import forget_steps
from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.distill.weights.imported_cache import local_checkpoint
from edgedetr.distill.weights.inheritance import inherit
from edgedetr.distill.weights.initial import model_from
from edgedetr.distill.weights.normalization import normalization_of
from edgedetr.distill.weights.pretrained import load_backbone
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.config import StudentConfig
    from edgedetr.distill.model import Model
    from edgedetr.distill.teacher_config import TeacherConfig


def open_models(
    student: StudentConfig, teacher: TeacherConfig, class_names: tuple[str, ...]
) -> tuple[Model, Model | None]:
    """Open the student and the teacher of a run, each as its section of the config says.

    Args:
        student: What the student is, and which weights it starts from: its teacher's, too.
        teacher: What the teacher is, if there is one, and what it calls each class.
        class_names: The classes to train.

    Raises:
        UnknownNameError: If there is no such family or preset.
        ArtifactError: If a file of weights is missing, damaged or of another detector, or the
            teacher does not know one of the classes.
        UsageError: If no tensor of the teacher's fits a student that inherits.
    """
    fresh = open_student(student, class_names, teacher.class_names)
    taught_by = open_teacher(teacher)
    return inherited(fresh, taught_by, student), taught_by


def open_student(
    config: StudentConfig,
    class_names: tuple[str, ...],
    other_names: Sequence[Sequence[str]] = (),
) -> Model:
    """Make the student with fresh weights, or with those that its section of the config names.

    Args:
        config: What it is.
        class_names: The classes to train.
        other_names: What weights that it starts from may call each of them.

    Raises:
        UnknownNameError: If there is no such family or preset.
        ArtifactError: If a file of weights is missing, damaged or of another detector.
    """
    spec = ModelSpec(input_hw=config.input_hw, class_names=class_names, resize=config.resize)
    if config.init:
        model = model_from(config.init, config.family, config.preset, spec, other_names)
        return _normalized(model, model.spec, config, config.init)
    model = new_model(config.family, config.preset, spec)
    if not config.backbone_weights:
        return _normalized(model, spec, config, "")
    load_backbone(model.network, config.backbone_weights)
    found = normalization_of(config.backbone_weights)
    if found is None and config.mean is None:
        _say(
            f"warning: no file beside {config.backbone_weights} says its mean and std; the student "
            "has mean 0 and std 1: set student.mean and student.std if it was trained otherwise"
        )
    theirs = replace(spec, mean=found.mean, std=found.std) if found else spec
    return _normalized(model, theirs, config, config.backbone_weights if found else "")


def inherited(student: Model, teacher: Model | None, config: StudentConfig) -> Model:
    """Return the student, with its teacher's weights and normalization where the config wants them.

    Raises:
        UsageError: If no tensor of the teacher's fits.
    """
    if not config.inherit or teacher is None:
        return student
    inherit(student, teacher)
    theirs = replace(
        student.spec,
        mean=teacher.spec.mean,
        std=teacher.spec.std,
        pad_value=teacher.spec.pad_value,
    )
    return _normalized(student, theirs, config, "its teacher")


def _normalized(model: Model, theirs: ModelSpec, config: StudentConfig, source: str) -> Model:
    """Return a student with the mean and std of the config, or else with those of its weights.

    Args:
        model: The student.
        theirs: Its spec with the mean and std of its weights.
        config: Its section of the config.
        source: The weights; empty where they are fresh, or do not say what they were trained with.
    """
    if config.mean is None or config.std is None:
        return replace(model, spec=theirs)
    if source and (theirs.mean, theirs.std) != (config.mean, config.std):
        _say(
            f"warning: student.mean {config.mean} and student.std {config.std} are not those that "
            f"{source} was trained with, {theirs.mean} and {theirs.std}"
        )
    return replace(model, spec=replace(theirs, mean=config.mean, std=config.std))


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)


def open_teacher(config: TeacherConfig) -> Model | None:
    """Load the frozen teacher, if there is one, with its outputs in the student's classes.

    Raises:
        ArtifactError: If its file is missing or damaged, or it does not know one of the classes.
    """
    if not config.checkpoint:
        return None
    teacher = replace(load_model(local_checkpoint(config.checkpoint)), quantization=None)
    forget_steps(teacher.network)
    teacher.network.requires_grad_(requires_grad=False)
    known = teacher.spec.class_names
    unknown = [name for names in config.class_names for name in names if name not in known]
    if unknown:
        raise ArtifactError(
            f"{config.checkpoint} knows the classes {', '.join(known)}, not "
            f"{', '.join(unknown)}{_meant(unknown, known)}; name the teacher's classes of each in "
            f'[class_map], like {unknown[0]} = "{known[0]}", or [] for none'
        )
    teacher = replace(teacher, spec=config.input.applied(teacher.spec))
    return teacher.with_classes(config.class_names)


def report_inputs(student: ModelSpec, teacher: ModelSpec | None) -> None:
    """Say in one line where the teacher's input differs from the student's."""
    if teacher is None:
        return
    mine, theirs = (
        {
            "size": f"{s.input_hw[0]} x {s.input_hw[1]} {s.resize}",
            "mean": f"{s.mean}",
            "std": f"{s.std}",
        }
        for s in (student, teacher)
    )
    other = [
        f"{name} {theirs[name]} (student {mine[name]})"
        for name in mine
        if mine[name] != theirs[name]
    ]
    if other:
        _say(f"the teacher's input differs: {', '.join(other)}; set teacher_input to change it")


def _meant(unknown: Sequence[str], known: Sequence[str]) -> str:
    """Name the class nearest to the first unknown one that has any, as part of a message."""
    for name in unknown:
        near = get_close_matches(name.lower(), [k.lower() for k in known], n=1)
        if near:
            found = next(k for k in known if k.lower() == near[0])
            return f" (did you mean {found!r} for {name!r}?)"
    return ""
