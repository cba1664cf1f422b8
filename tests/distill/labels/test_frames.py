from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edgedetr.distill.labels.frames import (
    EVERY_CLASS,
    CheckedFrame,
    LabelledFrame,
    LabelledObject,
    LabelSet,
    checked,
    has_area,
)
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def labels(root: Path, *boxes: tuple[float, float, float, float]) -> LabelSet:
    """One frame of 60 x 50 px with cars."""
    image = root / "a.png"
    cv2.imwrite(str(image), np.full((50, 60, 3), 90, np.uint8))
    objects = [LabelledObject("car", box) for box in boxes]
    return LabelSet(root, frames=[LabelledFrame(image, "a.txt", None, objects, "a")])


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((30, 5, 20, 9), "box 1 (30 5 20 9) is turned over"),
        ((70, 5, 80, 9), "box 1 (70 5 80 9) lies outside the image of 60 x 50 px"),
        ((-9, 5, 0, 9), "lies outside the image"),
    ],
)
def test_a_box_that_cannot_be_is_a_problem(
    tmp_path: Path, box: tuple[float, float, float, float], message: str
) -> None:
    (found,) = checked(labels(tmp_path, box))
    assert isinstance(found, list)
    (problem,) = found
    assert problem.startswith("a.txt: ")
    assert message in problem


def test_boxes_without_area_are_left_out_and_counted(tmp_path: Path) -> None:
    found = labels(tmp_path, (5, 5, 5, 9), (59.9999999, 5, 70, 9), (-5, 5, 9, 70))
    (frame,) = checked(found)
    assert isinstance(frame, CheckedFrame)
    assert [o.box for o in frame.objects] == [(-5, 5, 9, 70)]
    assert found.notes == [f"{tmp_path}: 2 of 3 boxes have no area and are left out"]


def test_has_area_agrees_with_its_short_cut() -> None:
    assert has_area((0, 0, 60, 50), (50, 60))
    assert has_area((58.5, 0, 70, 0.5), (50, 60))
    assert not has_area((60, 0, 70, 9), (50, 60))


def test_only_decoding_finds_pixels_that_are_cut_off(tmp_path: Path) -> None:
    found = labels(tmp_path)
    image = tmp_path / "a.png"
    image.write_bytes(image.read_bytes()[:-20])
    assert isinstance(next(checked(found)), CheckedFrame)
    (problems,) = checked(found, decode=True)
    assert isinstance(problems, list)
    (problem,) = problems
    assert "not a whole PNG or JPEG image" in problem


def test_classes_listed_occurring_and_required(tmp_path: Path) -> None:
    found = labels(tmp_path, (1, 1, 9, 9))
    found.frames[0].objects.append(LabelledObject(EVERY_CLASS, (1, 1, 9, 9), is_ignored=True))
    found.class_names = ("bus",)
    assert found.names() == ("bus", "car")
    assert dict(found.occurring()) == {"car": 1}
    found.require(("bus", "car"))
    with pytest.raises(DataError, match="no label has one of the classes bus; found car 1"):
        found.require(("bus",))
    found.is_closed = True
    with pytest.raises(DataError, match="no class 'buss'; did you mean 'bus'"):
        found.require(("buss",))
