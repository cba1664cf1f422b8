"""Which facts of a label a format has a place for, and what a conversion loses for want of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgedetr.distill.labels.frames import EVERY_CLASS, OCCLUDED, TRUNCATED

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from edgedetr.distill.labels.frames import CheckedFrame, LabelledObject


@dataclass(frozen=True)
class Keeps:
    """What a format has a place for.

    Attributes:
        ignored: Areas to ignore: each of a ``class``, of ``every`` class, or ``any`` of these;
            empty for none.
        truncation: The ``share`` of an object outside the image, or that it is (``yes``); or no.
        occlusion: KITTI's ``grade``, or that an object is occluded (``yes``); or neither.
        classes: The only classes that it can hold; None for any.
        beyond_edge: Whether boxes may reach beyond their image.
        one_folder: Whether the images of all splits lie in one folder, where names must differ.
    """

    ignored: Literal["class", "every", "any", ""] = ""
    truncation: Literal["share", "yes", ""] = ""
    occlusion: Literal["grade", "yes", ""] = ""
    classes: tuple[str, ...] | None = None
    beyond_edge: bool = True
    one_folder: bool = False


def fitted(
    frame: CheckedFrame, keeps: Keeps, class_names: tuple[str, ...], losses: Counter[str]
) -> CheckedFrame:
    """Bring a frame's objects to what a format can hold.

    Args:
        frame: The frame.
        keeps: The format.
        class_names: All classes of the data set, for areas that are written once for each.
        losses: Counts each loss, by what it is.
    """
    objects = [
        _in_image(_clear(obj, keeps, losses), frame.hw, keeps, losses)
        for given in frame.objects
        for obj in _named(given, keeps, class_names, losses)
    ]
    return frame._replace(objects=objects)


def _named(
    obj: LabelledObject, keeps: Keeps, class_names: tuple[str, ...], losses: Counter[str]
) -> Iterator[LabelledObject]:
    """Give an object a class that the format has, several, or drop it."""
    known = keeps.classes
    if obj.is_ignored and not keeps.ignored:
        losses["areas to ignore are dropped and become background"] += 1
    elif obj.is_ignored and keeps.ignored == "every":
        if obj.name != EVERY_CLASS:
            losses["areas to ignore of one class become those of every class"] += 1
        yield obj._replace(name=EVERY_CLASS)
    elif obj.name == EVERY_CLASS and keeps.ignored != "any":
        losses["areas to ignore of every class are written once for each class"] += 1
        yield from (obj._replace(name=name) for name in known or class_names)
    elif known is not None and obj.name not in known:
        losses[f"objects of the class {obj.name!r}, which the format lacks, are dropped"] += 1
    else:
        yield obj


def _clear(obj: LabelledObject, keeps: Keeps, losses: Counter[str]) -> LabelledObject:
    """Drop how much of an object is seen, or reduce it to whether all is."""
    truncation, occlusion = obj.truncation, obj.occlusion
    if truncation and not keeps.truncation:
        losses["truncated objects lose that they are"] += 1
        truncation = 0.0
    elif keeps.truncation == "yes" and truncation not in {0, TRUNCATED}:
        losses["truncated objects keep that they are, and not by how much"] += 1
        truncation = TRUNCATED
    if occlusion and not keeps.occlusion:
        losses["occluded objects lose that they are"] += 1
        occlusion = 0
    elif keeps.occlusion == "yes" and occlusion not in {0, OCCLUDED}:
        losses["occluded objects keep that they are, and not by how much"] += 1
        occlusion = OCCLUDED
    return obj._replace(truncation=truncation, occlusion=occlusion)


def _in_image(
    obj: LabelledObject, hw: tuple[int, int], keeps: Keeps, losses: Counter[str]
) -> LabelledObject:
    """Cut a box at the edge of its image where the format wants it."""
    x0, y0, x1, y1 = obj.box
    inside = (max(x0, 0.0), max(y0, 0.0), min(x1, float(hw[1])), min(y1, float(hw[0])))
    if keeps.beyond_edge or inside == obj.box:
        return obj
    losses["boxes that reach beyond their image are cut at its edge"] += 1
    return obj._replace(box=inside)
