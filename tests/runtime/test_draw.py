from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgedetr.runtime.draw import class_colour, draw_detections
from edgedetr.runtime.types import Detections


def _one(box: list[float], label: int = 0) -> Detections:
    return Detections(
        np.array([box], np.float32), np.array([0.9], np.float32), np.array([label], np.int64)
    )


def test_the_edge_has_the_colour_of_its_class_and_the_inside_is_untouched() -> None:
    image = np.full((100, 200, 3), 7, np.uint8)
    picture = draw_detections(image, _one([40, 40, 160, 80], label=1), ("Car", "Cyclist"))
    assert picture[80, 100].tolist() == list(class_colour(1))
    assert (picture[50:75, 50:150] == 7).all()
    assert (image == 7).all()


@pytest.mark.parametrize("box", [[0, 0, 50, 50], [150, 0, 200, 100], [0, 60, 20, 100]])
def test_the_label_lies_in_the_picture(box: list[float]) -> None:
    blank = np.zeros((100, 200, 3), np.uint8)
    picture = draw_detections(blank, _one(box), ("Car",))
    alone = draw_detections(np.zeros((400, 600, 3), np.uint8), _one([200, 200, 300, 300]), ("Car",))
    plate = (alone[:199] == class_colour(0)).all(axis=-1).sum()
    assert (picture == class_colour(0)).all(axis=-1).sum() > plate * 0.9 > 100


def test_nothing_found_is_a_copy() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int))
    picture = draw_detections(image, nothing, ("Car",))
    assert np.array_equal(picture, image)
    assert picture is not image


def test_the_first_classes_have_colours_far_apart() -> None:
    colours = [np.array(class_colour(label)) for label in range(6)]
    assert all(np.abs(a - b).sum() > 100 for a, b in itertools.combinations(colours, 2))
