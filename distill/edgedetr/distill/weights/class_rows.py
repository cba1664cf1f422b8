"""Rows of class heads: taken over by the names of their classes, never by where they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers import DeformableDetrForObjectDetection, PreTrainedModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from edgedetr.distill.model import Model


def rows_by_name(student: Model, teacher: Model) -> tuple[int | None, ...]:
    """Return which row of a teacher's class heads each class of a student is.

    A class that the teacher's `with_classes` made of several is the first of them.

    Returns:
        None for a class that the teacher does not know.
    """
    theirs = teacher.spec.class_names
    groups: Sequence[Sequence[int]] = [
        (theirs.index(name),) if name in theirs else () for name in student.spec.class_names
    ]
    if teacher.class_map is not None:
        groups = teacher.class_map.groups
    named = teacher.architecture.class_rows if teacher.architecture else ()
    firsts = [group[0] if group else None for group in groups]
    return tuple(named[i] if named and i is not None else i for i in firsts)


def row_count(model: Model) -> int:
    """Return how many rows the class heads have; of an imported model some may be no class's."""
    return model.architecture.rows if model.architecture else len(model.spec.class_names)


def by_class(network: nn.Module, name: str, classes: int, step: int) -> tuple[Tensor, Tensor]:
    """Sort a tensor of a network by class, as two views of it.

    transformers' heads have a row for each class, and what is no class lies behind; torchvision's
    two-stage head has the background first and then each class's rows; a head of several anchors
    has a row for each class, anchor by anchor. The encoder's head of a two-stage Deformable DETR
    says object with its first row, whatever the classes: it counts as no class.

    Args:
        network: The detector.
        name: Of a tensor of its ``state_dict`` that knows the classes.
        classes: How many classes K the network has.
        step: How many rows S a class has.

    Returns:
        (K, S, ...), and the rest.
    """
    tensor = network.state_dict()[name]
    after = tensor.shape[1:]
    if _says_object(network, name):
        return tensor[:0].view(0, step, *after), tensor[:1]
    rest = len(tensor) - classes * step
    if rest == 0 and step > 1:
        return tensor.view(step, classes, *after).transpose(0, 1), tensor[:0]
    if isinstance(network, PreTrainedModel):
        return tensor[: classes * step].view(classes, step, *after), tensor[classes * step :]
    return tensor[rest:].view(classes, step, *after), tensor[:rest]


def _says_object(network: nn.Module, name: str) -> bool:
    if not isinstance(network, DeformableDetrForObjectDetection) or not network.config.two_stage:
        return False
    return f"class_embed.{network.config.decoder_layers}." in name
