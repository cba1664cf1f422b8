import json
from pathlib import Path

import numpy as np
import pytest

from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.save_formats import SAVE_FORMATS
from edgedetr.runtime.saved_results import check_results_folder, result_writer
from edgedetr.runtime.types import Detections

NAMES = ("Car", "traffic light")
FOUND = Detections(
    np.array([[10, 20, 40, 65], [0, 0, 100, 80]], np.float32),
    np.array([0.9, 0.25], np.float32),
    np.array([1, 0], np.int64),
)
NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def write(kind, folder):
    writer = result_writer(kind, folder, NAMES)
    writer.add(Path("x/a.png"), (80, 100), FOUND)
    writer.add(Path("x/b.jpg"), (80, 100), NOTHING)
    writer.close()


def test_coco_results_have_pixels_and_a_list_of_images(tmp_path):
    write("coco", tmp_path)
    rows = json.loads((tmp_path / "detections.json").read_text(encoding="utf-8"))
    assert rows == [
        {"image_id": 1, "category_id": 2, "bbox": [10, 20, 30, 45], "score": 0.9},
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 100, 80], "score": 0.25},
    ]
    images = json.loads((tmp_path / "images.json").read_text(encoding="utf-8"))
    assert [(i["id"], i["file_name"]) for i in images["images"]] == [(1, "a.png"), (2, "b.jpg")]
    assert images["categories"] == [{"id": 1, "name": "Car"}, {"id": 2, "name": "traffic light"}]


def test_yolo_results_have_shares_and_a_file_for_each_image(tmp_path):
    write("yolo", tmp_path)
    lines = (tmp_path / "labels" / "a.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "1 0.2500000 0.5312500 0.3000000 0.5625000 0.900000"
    assert (tmp_path / "labels" / "b.txt").read_text(encoding="utf-8") == ""
    assert (tmp_path / "classes.txt").read_text(encoding="utf-8") == "Car\ntraffic light\n"


def test_kitti_results_are_a_file_for_each_image(tmp_path):
    write("kitti", tmp_path)
    text = (tmp_path / "a.txt").read_text(encoding="utf-8")
    assert text.startswith("traffic_light -1 -1 -10 10.00 20.00 40.00 65.00 ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]


@pytest.mark.parametrize("kind", SAVE_FORMATS)
def test_results_of_the_same_images_are_replaced_and_others_refused(tmp_path, kind):
    write(kind, tmp_path)
    check_results_folder(kind, tmp_path, ["a", "b"])
    other = tmp_path / "labels" / "c.txt" if kind == "yolo" else tmp_path / "c.txt"
    other.write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="holds other results"):
        check_results_folder(kind, tmp_path, ["a", "b"])


@pytest.mark.parametrize(
    ("kind", "place", "label"),
    [
        ("yolo", "labels/a.txt", "0 0.5 0.5 0.1 0.1"),
        ("kitti", "a.txt", "Car 0 0 0 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10"),
    ],
)
def test_labels_are_not_replaced_by_results(tmp_path, kind, place, label):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{label} 0.9\n")
    check_results_folder(kind, tmp_path, ["a"])
    path.write_text(f"\n{label}\n")
    with pytest.raises(UsageError, match=r"a\.txt holds labels"):
        check_results_folder(kind, tmp_path, ["a"])
