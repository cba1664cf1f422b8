from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
import pytest

from edgedetr.bench.report.pictures import chosen_frames, draw_frames
from edgedetr.distill.data import Sample, Truth
from edgedetr.runtime.types import Detections, Frame

if TYPE_CHECKING:
    from edgedetr.bench.report.contents import ModelReport
    from edgedetr.distill.data import Dataset

BOX = (10.0, 20.0, 30.0, 60.0)


class OneFrame:
    """A data set of one frame of 2000 x 500 px, left half red, with one labelled box."""

    class_names = ("Car",)

    def __getitem__(self, index: int) -> Sample:
        image = np.zeros((500, 2000, 3), np.uint8)
        image[:, :1000, 0] = 200
        truth = Truth(
            boxes=np.array([BOX], np.float32),
            labels=np.zeros(1, np.int64),
            truncation=np.zeros(1, np.float32),
            occlusion=np.zeros(1, np.int64),
            ignored=np.zeros((0, 4), np.float32),
        )
        return Sample(Frame(image, 0, f"{index:06}"), truth)


def model(name: str, *scores: float) -> ModelReport:
    """A model that finds the box once a score."""
    n = len(scores)
    found = Detections(
        np.tile(np.array(BOX, np.float32), (n, 1)),
        np.array(scores, np.float32),
        np.zeros(n, np.int64),
    )
    fake = SimpleNamespace(name=name, curves=SimpleNamespace(detections=(found,)))
    return cast("ModelReport", fake)


@pytest.mark.parametrize(
    ("count", "wanted"),
    [
        (1, [0]),
        (3, [0, 1, 2]),
        (15, [0, 2, 4, 6, 8, 10, 12, 14]),
        (200, [0, 28, 57, 85, 114, 142, 171, 199]),
    ],
)
def test_frames_are_spread_over_the_split(count: int, wanted: list[int]) -> None:
    assert chosen_frames(count) == wanted


def test_picture_holds_the_image_and_what_each_model_found() -> None:
    models = [model("teacher", 0.9), model("student", 0.8, 0.4, 0.2)]
    (picture,) = draw_frames(cast("Dataset", OneFrame()), 1, models, ["c0", "c1"])
    assert (picture.width, picture.height) == (2000, 500)  # boxes are in source pixels
    data = base64.b64decode(picture.uri.removeprefix("data:image/jpeg;base64,"))
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (320, 1280, 3)
    assert image[160, 100].tolist() == pytest.approx([0, 0, 200], abs=8)  # BGR
    teacher, student, truth = picture.layers
    assert [(b.x, b.y, b.width, b.height, b.text) for b in truth.boxes] == [(10, 20, 20, 40, "Car")]
    assert [b.text for b in teacher.boxes] == ["Car 0.90"]
    assert [(b.text, b.sure) for b in student.boxes] == [("Car 0.80", True), ("Car 0.40", False)]
    assert picture.caption == "1 labelled; teacher 1; student 2, 1 as teacher"
