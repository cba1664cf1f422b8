from __future__ import annotations

import copy
import json
import re
import struct
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from edgedetr.distill.data import open_dataset
from edgedetr.distill.dataset_survey import survey
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
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


def test_images_lie_where_the_name_of_the_labels_leads(tmp_path: Path) -> None:
    root = folder(tmp_path, CONTENT, "annotations/instances_val2017.json", "val2017")
    dataset = open_dataset("coco", root, "val", ("car",))
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


@pytest.mark.parametrize("value", [1, True, "1", "true", " True "])
def test_a_crowd_is_one_however_it_is_written(tmp_path: Path, value: object) -> None:
    content = copy.deepcopy(CONTENT)
    content["annotations"][2]["iscrowd"] = value
    truth = open_dataset("coco", folder(tmp_path, content), "train", ("car",)).truths[0]
    assert (len(truth.boxes), len(truth.ignored)) == (1, 1)


@pytest.mark.parametrize("value", [0, False, "0", "false"])
def test_no_crowd_is_none_however_it_is_written(tmp_path: Path, value: object) -> None:
    content = copy.deepcopy(CONTENT)
    content["annotations"][2]["iscrowd"] = value
    truth = open_dataset("coco", folder(tmp_path, content), "train", ("car",)).truths[0]
    assert (len(truth.boxes), len(truth.ignored)) == (2, 0)


def change(content: dict[str, Any], key: str, index: int, **values: object) -> None:
    content[key][index].update(values)


BAD_LISTS: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda c: change(c, "images", 1, id=5), r"the id 5 is that of the images .*x.png and .*y.png"),
    (lambda c: change(c, "images", 1, file_name="./x.png"), r"x.png has the ids 5 and 9"),
    (
        lambda c: c["images"].append({**c["images"][0], "width": 61}),
        "the image with the id 5 is listed with different sizes",
    ),
    (lambda c: change(c, "categories", 0, id=3), "the id 3 is that of .* 'bus' and 'car'"),
    (
        lambda c: change(c, "categories", 0, name="car"),
        "1 and 3 are both named 'car' and both have",
    ),
    (lambda c: change(c, "categories", 0, name=" "), "name ' ', wanted printable text"),
    (lambda c: change(c, "images", 0, file_name="a" * 400), r"a is missing"),
    (lambda c: change(c, "images", 0, file_name="a\0b"), r"file_name 'a.x00b', wanted printable"),
    (lambda c: change(c, "images", 0, height="tall"), r"images.0.: 'tall', wanted a whole number"),
    (lambda c: change(c, "images", 0, id=10**400), r"images.0.: 1000.*wanted a number below 2.63"),
    (lambda c: c.update(images={}), "no list of images"),
]


@pytest.mark.parametrize(("break_it", "message"), BAD_LISTS)
def test_a_bad_list_is_one_clear_line(
    tmp_path: Path, break_it: Callable[[dict[str, Any]], object], message: str
) -> None:
    content = copy.deepcopy(CONTENT)
    break_it(content)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset("coco", folder(tmp_path, content), "train", ("car",))
    assert "\n" not in str(caught.value)


def test_images_of_one_id_are_no_good_frames(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    content["images"][1]["id"] = 5
    found = survey(folder(tmp_path, content))
    assert (len(found.problems), found.frames, found.classes.total()) == (1, 0, 0)


def test_a_root_category_that_nothing_uses_does_not_matter(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    content["categories"].insert(0, {"id": 0, "name": "car"})
    truth = open_dataset("coco", folder(tmp_path, content), "train", ("car",)).truths[0]
    assert truth.labels.tolist() == [0]


@pytest.mark.parametrize("bbox", [[5, 5, 0, 9], [5, 5, 9, 0], [59.9999999, 5, 9, 9]])
def test_boxes_without_area_are_left_out_and_counted_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bbox: list[float]
) -> None:
    content = copy.deepcopy(CONTENT)
    content["annotations"] += [{**content["annotations"][0], "bbox": bbox}] * 2
    root = folder(tmp_path, content)
    assert len(open_dataset("coco", root, "train", ("car",)).truths[0].boxes) == 1
    line = f"{root / 'train.json'}: 2 of 5 boxes have no area and are left out"
    assert capsys.readouterr().err == f"{line}\n"
    assert survey(root).notes == [line]


def test_boxes_that_are_shares_of_the_image_are_refused(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    for entry in content["annotations"]:
        entry["bbox"] = [0.25, 0.5, 0.25, 0.5]
    root = folder(tmp_path, content)
    with pytest.raises(DataError, match="no box reaches beyond 1: shares of the image"):
        open_dataset("coco", root, "train", ("car",))


def test_images_may_lie_elsewhere(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    root = folder(tmp_path / "data", content, images="real")
    (root / "train").mkdir()
    (root / "train" / "sub").symlink_to(root / "real")
    for names in (
        ("../real/x.png", str(root / "real" / "y.png")),
        ("sub/x.png", "sub/y.png"),
    ):
        for image, name in zip(content["images"], names, strict=True):
            image["file_name"] = name
        (root / "train.json").write_text(json.dumps(content))
        assert open_dataset("coco", root, "train", ("car",))[1].frame.image.shape == (50, 60, 3)
        found = survey(root)
        assert (found.frames, found.problems) == (2, [])


def test_one_of_several_annotation_files_must_be_named(tmp_path: Path) -> None:
    root = folder(tmp_path, CONTENT)
    other = copy.deepcopy(CONTENT)
    other["annotations"] = []
    folder(tmp_path, other, "annotations/instances_train2017.json", "train2017")
    both = r"train.json and annotations/instances_train2017.json may each be meant"
    for split in ("train", "all"):
        with pytest.raises(DataError, match=both):
            open_dataset("coco", root, split, ("car",))
    for split, count in (
        ("train.json", 1),
        ("instances_train2017.json", 0),
        ("train2017", 0),
    ):
        assert len(open_dataset("coco", root, split, ("car",)).truths[0].boxes) == count


def test_hidden_files_and_byte_order_marks_do_not_matter(tmp_path: Path) -> None:
    root = folder(tmp_path, CONTENT, "annotations/instances_train2017.json", "train2017")
    path = root / "annotations" / "instances_train2017.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    (root / "annotations" / "._instances_train2017.json").write_bytes(b"\x00\x05\x16\x07")
    (root / "._train.json").write_bytes(b"\x00\x05\x16\x07")
    assert open_dataset("coco", root, "train", ("car",)).ids == ("x", "y")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"images": [], "images": []}', "the key 'images' is there twice"),
        ('{"images": ' + "1" * 5000 + "}", "not a readable JSON file"),
        ("\udcff", "not a readable JSON file"),
    ],
)
def test_hostile_json_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    root = folder(tmp_path, CONTENT)
    (root / "train.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=message) as caught:
        survey(root)
    assert "\n" not in str(caught.value)


def test_corners_in_place_of_sizes_are_doubted(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    boxes = [[5 + 4 * i, 10, 8, 20] for i in range(10)]
    template = content["annotations"][0]
    rows = [{**template, "id": i, "bbox": box} for i, box in enumerate(boxes)]
    content["annotations"] = rows
    assert survey(folder(tmp_path / "sizes", content)).problems == []
    for row, (x, y, width, height) in zip(rows, boxes, strict=True):
        row["bbox"] = [x, y, x + width, y + height]
    (problem,) = survey(folder(tmp_path / "corners", content)).problems
    assert "4 of 10 boxes end beyond their pictures: two corners each? wanted pixels" in problem


def exif(orientation: int) -> bytes:
    """An EXIF segment of a JPEG file."""
    entry = struct.pack(">HHIHH", 0x112, 3, 1, orientation, 0)
    body = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def write_turned(path: Path, orientation: int) -> None:
    """A JPEG file of 60 x 50 px as stored."""
    data = cv2.imencode(".jpg", np.full((50, 60, 3), 90, np.uint8))[1].tobytes()
    path.write_bytes(data[:2] + exif(orientation) + data[2:])


def test_labels_of_the_picture_as_stored_are_refused_where_exif_turns_it(tmp_path: Path) -> None:
    root = folder(tmp_path, CONTENT)
    write_turned(root / "train" / "x.png", 6)
    message = (
        r"x\.png: is 50 x 60 px when it is turned upright as its EXIF orientation 6 says, .*"
        r"train\.json has 60 x 50; label the upright picture, or remove the orientation"
    )
    with pytest.raises(DataError, match=message):
        open_dataset("coco", root, "train", ("car",))
    (problem,) = survey(root).problems
    assert re.search(message, problem)


def test_labels_of_the_upright_picture_are_right(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    content["images"][0].update(height=60, width=50)
    root = folder(tmp_path, content)
    write_turned(root / "train" / "x.png", 6)
    dataset = open_dataset("coco", root, "train", ("car",))
    assert dataset[0].frame.image.shape == (60, 50, 3)
    assert survey(root).problems == []


def test_a_turn_that_the_size_does_not_show_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder(tmp_path, CONTENT)
    write_turned(root / "train" / "x.png", 3)
    open_dataset("coco", root, "train", ("car",))
    line = "1 images are turned by EXIF without changing their size; their boxes are taken as"
    assert line in capsys.readouterr().err
    assert line in survey(root).notes[0]


def test_pictures_of_another_size_are_refused_before_any_is_decoded(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    content["images"][1].update(height=100, width=120)
    root = folder(tmp_path, content)
    with pytest.raises(DataError, match=r"y\.png: is 60 x 50 px, .*train\.json has 120 x 100; the"):
        open_dataset("coco", root, "train", ("car",))


def test_real_photos_load(shared_data: Path) -> None:
    root = shared_data / "road_objects"
    names = ("bus", "car", "motorbike", "person", "truck")
    sets = [open_dataset("coco", root, split, names) for split in ("train", "val")]
    assert [len(s) for s in sets] == [1704, 487]
    assert sum(len(t.labels) for s in sets for t in s.truths) == 4711
    assert sets[1][0].frame.image.shape == (320, 320, 3)
