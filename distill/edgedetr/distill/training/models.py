"""The models of a run: the student, fresh or from weights, and the frozen teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgedetr.distill.model import new_model
from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.distill.weights.imported_cache import local_checkpoint
from edgedetr.distill.weights.initial import model_from
from edgedetr.distill.weights.pretrained import load_backbone
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from edgedetr.distill.config import StudentConfig, TeacherConfig
    from edgedetr.distill.model import Model


def open_student(config: StudentConfig, class_names: tuple[str, ...]) -> Model:
    """Make the student with fresh weights, or with those that its section of the config names.

    Raises:
        UnknownNameError: If there is no such family or preset.
        ArtifactError: If a file of weights is missing, damaged or of another detector.
    """
    spec = ModelSpec(input_hw=config.input_hw, class_names=class_names, resize=config.resize)
    if config.init:
        return model_from(config.init, config.family, config.preset, spec)
    model = new_model(config.family, config.preset, spec)
    if config.backbone_weights:
        load_backbone(model.network, config.backbone_weights)
    return model


def open_teacher(config: TeacherConfig) -> Model | None:
    """Load the frozen teacher, if there is one, with its outputs in the student's classes.

    Raises:
        ArtifactError: If its file is missing or damaged, or it does not know one of the classes.
    """
    if not config.checkpoint:
        return None
    teacher = replace(load_model(local_checkpoint(config.checkpoint)), quantization=None)
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
