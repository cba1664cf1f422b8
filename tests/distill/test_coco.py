from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from edgedetr.distill.data import open_dataset
from edgedetr.distill.survey import survey
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

CONTENT: dict[str, Any] = {
    "images": [
        {"id": 5, "file_name": "x.png", "height": 50, "width": 60},
        {"id": 9, "file_name": "y.png", "height": 50, "width": 60},
    ],
    "categories": [{"id": 1, "name": "bus"}, {"id": 3, "name": "car"}],
    "annotations": [
        {"id": 1, "image_id": 5, "category_id": 3, "bbox": [10, 20, 5, 6], "iscrowd": 0},
        {"id": 2, "image_id": 5, "category_id": 1, "bbox": [40, 30, 40, 10]},
        {"id": 3, "image_id": 5, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1},
    ],
}


def folder(root: Path, content: object, name: str = "train.json", images: str = "train") -> Path:
    (root / images).mkdir(parents=True)
    png = cv2.imencode(".png", np.full((50, 60, 3), 90, np.uint8))[1].tobytes()
    for image in ("x.png", "y.png"):
        (root / images / image).write_bytes(png)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("split", "name", "images"),
    [
        ("train", "train.json", "train"),
        ("val", "valid.json", "valid"),
        ("val", "val.json", "val"),
        ("valid", "valid.json", "valid"),
        ("val", "annotations/instances_val2017.json", "val2017"),
        ("all", "annotations/instances_train2017.json", "train2017"),
    ],
)
def test_layouts(tmp_path: Path, split: str, name: str, images: str) -> None:
    dataset = open_dataset("coco", folder(tmp_path, CONTENT, name, images), split, ("car",))
    assert dataset.ids == ("x", "y")
    assert dataset[0].frame.image.shape == (50, 60, 3)


def test_boxes_crowds_and_other_categories(tmp_path: Path) -> None:
    first, second = open_dataset("coco", folder(tmp_path, CONTENT), "train", ("car",)).truths
    assert first.boxes.tolist() == [[10, 20, 15, 26]]
    assert first.labels.tolist() == [0]
    assert first.ignored.tolist() == [[0, 0, 9, 9]]
    assert second.boxes.shape == (0, 4)
    both = open_dataset("coco", tmp_path, "train", ("car", "bus")).truths[0]
    assert both.labels.tolist() == [0, 1]
    bus = open_dataset("coco", tmp_path, "train", ("bus",)).truths[0]
    assert bus.ignored.tolist() == []  # the crowd is one of cars


def test_other_categories_are_ignored_areas_on_request(tmp_path: Path) -> None:
    root = folder(tmp_path, CONTENT)
    truth = open_dataset("coco", root, "train", ("car",), "ignored").truths[0]
    assert truth.ignored.tolist() == [[40, 30, 60, 40], [0, 0, 9, 9]]
    assert truth.ignored_by is not None
    assert truth.ignored_by.tolist() == [-1, 0]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"bbox": [1, 2, 3]}, "bbox [1, 2, 3], wanted a list of four numbers"),
    ({"bbox": "1234"}, "bbox '1234', wanted a list of four numbers"),
    ({"bbox": [1, 2, float("nan"), 4]}, "wanted finite numbers"),
    ({"bbox": [1, 2, 10**400, 4]}, "wanted finite numbers"),
    ({"bbox": [1, 2, True, 4]}, "True, wanted finite numbers"),
    ({"bbox": [1, 2, -3, 4]}, "wanted a positive width and height"),
    ({"bbox": [60, 2, 5, 4]}, "outside the image of 60 x 50 px"),
    ({"image_id": 77}, "no image has the id 77"),
    ({"category_id": 2}, "no category has the id 2"),
    ({"image_id": 5.5}, "5.5, wanted a whole number"),
    ({"image_id": True}, "True, wanted a whole number"),
    ({"bbox": None}, "bbox None, wanted a list"),
    ({"iscrowd": "no"}, "iscrowd 'no', wanted 0 or 1"),
    ({"iscrowd": None}, "iscrowd None, wanted 0 or 1"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_bad_annotation_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    content = copy.deepcopy(CONTENT)
    content["annotations"][1].update(change)
    root = folder(tmp_path, content)
    with pytest.raises(DataError, match=r"train\.json: annotations\[1\] \(id 2\): ") as caught:
        open_dataset("coco", root, "train", ("car",))
    assert message in str(caught.value)


def test_unknown_class_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no category 'cart'; did you mean 'car'"):
        open_dataset("coco", folder(tmp_path, CONTENT), "train", ("cart",))


@pytest.mark.parametrize("content", [[], {"images": []}, {**CONTENT, "images": [{"id": 1}]}])
def test_what_is_no_coco_file_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(DataError, match="not a COCO annotation file"):
        open_dataset("coco", folder(tmp_path, content), "train", ("car",))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        open_dataset("coco", tmp_path / "nothing", "train", ("car",))
    root = folder(tmp_path, CONTENT)
    with pytest.raises(DataError, match="no annotations for the split 'val'"):
        open_dataset("coco", root, "val", ("car",))
    (root / "train" / "y.png").unlink()
    with pytest.raises(DataError, match=r"y\.png is missing"):
        open_dataset("coco", root, "train", ("car",))


def test_survey_reports_every_problem(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    good = content["annotations"][0]
    content["annotations"] += [{**good, **change} for change, _ in BAD]
    root = folder(tmp_path, content)
    (root / "train" / "y.png").write_bytes(b"no image")
    found = survey(root)
    assert len(found.problems) == len(BAD) + 1
    assert "y.png" in found.problems[-1]
    assert (found.frames, dict(found.classes)) == (1, {"car": 1, "bus": 1})


def test_survey_compares_the_size_of_images(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    content["images"][1]["width"] = 61
    problems = survey(folder(tmp_path, content)).problems
    assert len(problems) == 1
    assert "y.png: is 60 x 50 px, " in problems[0]
    assert "train.json has 61 x 50" in problems[0]


def test_real_photos_load(shared_data: Path) -> None:
    root = shared_data / "road_objects"
    names = ("bus", "car", "motorbike", "person", "truck")
    sets = [open_dataset("coco", root, split, names) for split in ("train", "val")]
    assert [len(s) for s in sets] == [1704, 487]
    assert sum(len(t.labels) for s in sets for t in s.truths) == 4711
    assert sets[1][0].frame.image.shape == (320, 320, 3)
