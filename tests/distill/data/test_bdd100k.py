from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from edgedetr.distill.data import open_dataset
from edgedetr.distill.data.bdd100k import CLASSES, read
from edgedetr.distill.dataset_survey import survey
from edgedetr.distill.evaluation.coco import coco_ap
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.types import Detections

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Write = Callable[[Path], Path]

BOX = {"x1": 10.0, "y1": 20.0, "x2": 39.0, "y2": 64.0}


def label(**changes: object) -> dict[str, Any]:
    return {"id": "1", "category": "car", "attributes": {}, "box2d": BOX, **changes}


def folder(
    root: Path, write_image: Write, content: object, name: str = "det_20/det_train.json"
) -> Path:
    write_image(root / "images" / "100k" / "train" / "a.jpg")
    path = root / "labels" / name
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return root


@pytest.mark.parametrize("name", ["det_20/det_train.json", "bdd100k_labels_images_train.json"])
def test_corners_belong_to_the_box_and_crowds_are_ignored(
    tmp_path: Path, write_image: Write, name: str
) -> None:
    labels = [
        label(attributes={"occluded": True, "truncated": True, "crowd": False}),
        label(category="person", attributes={"crowd": True}),
        label(category="car", attributes={"ignored": True}),
        {"id": "4", "category": "lane", "attributes": {}, "poly2d": []},
    ]
    content = [{"name": "a.jpg", "labels": labels}]
    root = folder(tmp_path, write_image, content, name)
    truth = open_dataset("auto", root, "train", ("car", "bus")).truths[0]
    assert truth.boxes.tolist() == [[10, 20, 40, 65]]
    assert (truth.occlusion.tolist(), truth.truncation.tolist()) == ([1], [0.5])
    assert truth.ignored_by.tolist() == [0]
    assert read(root, "train").class_names == CLASSES


def test_frames_without_labels_and_their_sizes(tmp_path: Path, write_image: Write) -> None:
    frame = {"name": "a.jpg", "labels": None, "size": {"width": 101, "height": 80}}
    content = {"frames": [frame], "config": {"categories": [{"name": "sign"}]}}
    root = folder(tmp_path, write_image, content)
    assert read(root, "train").class_names == ("sign",)
    (problem,) = survey(root).problems
    assert "a.jpg: is 100 x 80 px, " in problem
    assert "has 101 x 80" in problem


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"box2d": {**BOX, "x1": "left"}}, "'left', wanted finite numbers"),
        ({"box2d": {"x1": 1}}, "no 'y1'; wanted category and box2d"),
        ({"box2d": [1, 2, 3, 4]}, "no JSON object"),
        ({"category": ""}, "name '', wanted printable text"),
    ],
)
def test_a_bad_label_is_named(
    tmp_path: Path, write_image: Write, change: dict[str, Any], message: str
) -> None:
    content = [{"name": "a.jpg", "labels": [label(), label(**change)]}]
    root = folder(tmp_path, write_image, content)
    with pytest.raises(DataError, match=r"frames\[0\]: labels\[1\]: ") as caught:
        open_dataset("bdd100k", root, "train", ("car",))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "box", [{**BOX, "x2": 5.0}, {"x1": 200.0, "y1": 1.0, "x2": 300.0, "y2": 9.0}]
)
def test_boxes_that_are_turned_over_or_outside_are_named(
    tmp_path: Path, write_image: Write, box: dict[str, float]
) -> None:
    root = folder(tmp_path, write_image, [{"name": "a.jpg", "labels": [label(box2d=box)]}])
    with pytest.raises(DataError, match=r"box 1 \(.*turned over|lies outside the image"):
        open_dataset("bdd100k", root, "train", ("car",))


@pytest.mark.parametrize("content", [[], {}, "text", {"frames": "a"}])
def test_what_is_no_scalabel_file_is_refused(
    tmp_path: Path, write_image: Write, content: object
) -> None:
    with pytest.raises(DataError, match="not a Scalabel file; wanted a list of frames"):
        open_dataset("bdd100k", folder(tmp_path, write_image, content), "train", ("car",))


def test_a_frame_without_a_name_is_a_problem(tmp_path: Path, write_image: Write) -> None:
    bad = [{"labels": []}, 5, {"name": "a.jpg", "labels": 5}, {"name": "a" * 400, "labels": []}]
    problems = survey(folder(tmp_path, write_image, bad)).problems
    assert len(problems) == len(bad)
    assert "labels 5, wanted a list" in problems[2]
    assert "File name too long" in problems[3]


def test_scalabel_reads_the_same_boxes(tmp_path: Path, write_image: Write) -> None:
    """Held to Scalabel's own reader and its own box2d_to_xyxy."""
    transforms = pytest.importorskip("scalabel.label.transforms", exc_type=ImportError)
    typing = pytest.importorskip("scalabel.label.typing", exc_type=ImportError)
    root = folder(tmp_path, write_image, [{"name": "a.jpg", "labels": [label()]}])
    (obj,) = read(root, "train").frames[0].objects
    assert list(obj.box) == transforms.box2d_to_xyxy(typing.Box2D(**BOX))


def random_frames(random: np.random.Generator) -> tuple[list[Any], list[Any]]:
    """Scalabel's labels of some frames, crowds and ignored ones among them, and detections."""
    labelled, found = [], []
    for number in range(8):
        labels, detections = [], []
        for i in range(int(random.integers(0, 9))):
            x, y = random.uniform(0, 60, 2)
            width, height = random.uniform(2, 30, 2)
            box = {"x1": x, "y1": y, "x2": x + width, "y2": y + height}
            attributes = {"crowd": random.random() < 0.1, "ignored": random.random() < 0.1}
            category = str(random.choice(["car", "pedestrian", "truck"]))
            labels.append(label(category=category, attributes=attributes, box2d=box, id=str(i)))
            moved = {key: value + random.normal(0, 2) for key, value in box.items()}
            score = round(float(random.uniform(0.05, 1)), 4)
            detections.append({"category": category, "box2d": moved, "score": score, "id": str(i)})
        name, size = f"{number}.jpg", {"width": 96, "height": 96}
        labelled.append({"name": name, "size": size, "labels": labels})
        found.append({"name": name, "size": size, "labels": detections})
    return labelled, found


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_scalabel(tmp_path: Path, seed: int) -> None:
    detect = pytest.importorskip("scalabel.eval.detect", reason="scalabel is not installed")
    typing = pytest.importorskip("scalabel.label.typing")
    labelled, found = random_frames(np.random.default_rng(seed))
    folder = tmp_path / "images" / "100k" / "train"
    folder.mkdir(parents=True)
    for frame in labelled:
        cv2.imwrite(str(folder / frame["name"]), np.zeros((96, 96, 3), np.uint8))
    path = tmp_path / "labels" / "det_20" / "det_train.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(labelled), encoding="utf-8")
    names = ("car", "pedestrian", "truck")
    truths = open_dataset("bdd100k", tmp_path, "train", names).truths
    detections = []
    for frame in found:
        rows = sorted(frame["labels"], key=lambda row: -row["score"])
        corners = [[row["box2d"][key] for key in ("x1", "y1", "x2", "y2")] for row in rows]
        boxes = np.array(corners, np.float32).reshape(-1, 4) + np.array([0, 0, 1, 1], np.float32)
        scores = np.array([row["score"] for row in rows], np.float32)
        labels = np.array([names.index(row["category"]) for row in rows], np.int64)
        detections.append(Detections(boxes, scores, labels))
    ours = coco_ap(truths, detections, names)
    config = typing.Config(categories=[typing.Category(name=name) for name in names])
    frames = [[typing.Frame(**frame) for frame in part] for part in (labelled, found)]
    theirs = detect.evaluate_det(*frames, config, nproc=1).summary()
    wanted = [theirs[key] / 100 for key in ("AP", "AP50", "AP75", *(f"AP/{n}" for n in names))]
    figures = [ours.ap, ours.ap50, ours.ap75, *ours.ap_by_class.tolist()]
    assert figures == pytest.approx(wanted, abs=1e-6)
    assert 0 < ours.ap < 1
