from __future__ import annotations

import copy
import io
import json
import math
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edgedetr.distill.data import Truth, open_dataset
from edgedetr.distill.evaluation.coco import CocoScores, coco_ap, evaluate_coco
from edgedetr.runtime.types import Detections

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Rows = list[tuple[int, list[float], float]]
"""Label, box and score of each detection."""
BOX = [100.0, 100.0, 200.0, 200.0]
AWAY = [300.0, 100.0, 400.0, 200.0]
FAR = [500.0, 100.0, 600.0, 200.0]


def truth(
    objects: list[tuple[int, list[float]]], ignored: list[list[float]] | None = None
) -> Truth:
    n = len(objects)
    return Truth(
        boxes=np.array([box for _, box in objects], np.float32).reshape(-1, 4),
        labels=np.array([label for label, _ in objects], np.int64),
        truncation=np.zeros(n, np.float32),
        occlusion=np.zeros(n, np.int64),
        ignored=np.array(ignored or [], np.float32).reshape(-1, 4),
    )


def found(rows: Rows) -> Detections:
    return Detections(
        boxes=np.array([box for _, box, _ in rows], np.float32).reshape(-1, 4),
        scores=np.array([score for _, _, score in rows], np.float32),
        labels=np.array([label for label, _, _ in rows], np.int64),
    )


def one_class(objects: list[list[float]], rows: Rows, **more: Any) -> CocoScores:
    return coco_ap([truth([(0, box) for box in objects], **more)], [found(rows)], ("car",))


def test_every_object_found_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    small = [10.0, 10.0, 30.0, 30.0]  # 20 x 20 px: below 32 x 32
    truths = [truth([(0, BOX), (1, small)]), truth([(1, AWAY)]), truth([])]
    detections = [found([(0, BOX, 0.9), (1, small, 0.8)]), found([(1, AWAY, 0.7)]), found([])]
    scores = coco_ap(truths, detections, ("car", "bus"))
    means = (scores.ap, scores.ap50, scores.ap75, scores.ap_small, scores.ap_large)
    assert means == pytest.approx((1, 1, 1, 1, 1))
    assert math.isnan(scores.ap_medium)  # no object between 32 x 32 and 96 x 96 px
    assert scores.ap_by_class == pytest.approx([1, 1])
    assert scores.precision == pytest.approx(np.ones((2, 101)))
    assert capsys.readouterr().out == ""


def test_a_false_alarm_between_two_hits() -> None:
    # Best first: hit, false alarm, hit. Precision is 1 up to recall 0.5 (points 0, ..., 50 of 101)
    # and 2/3 from there.
    scores = one_class([BOX, FAR], [(0, BOX, 0.9), (0, AWAY, 0.8), (0, FAR, 0.7)])
    assert scores.ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert scores.ap == pytest.approx(scores.ap50)
    assert scores.precision[0, [50, 51]] == pytest.approx([1, 2 / 3])


def test_overlap_0_62_hits_at_three_of_the_ten_limits() -> None:
    scores = one_class([BOX], [(0, [100, 100, 162, 200], 0.9)])
    assert (scores.ap, scores.ap50, scores.ap75) == pytest.approx((0.3, 1, 0))


@pytest.mark.parametrize("label", [0, 1])
def test_an_ignored_area_is_neutral_for_every_class(label: int) -> None:
    objects = [(0, BOX), (1, BOX)]
    # Two surer detections lie in the area AWAY; the smaller is a quarter of it.
    inside: Rows = [(label, AWAY, 0.95), (label, [310, 110, 360, 160], 0.99)]
    detections = found([(0, BOX, 0.9), (1, BOX, 0.9), *inside])
    with_area = coco_ap([truth(objects, [AWAY])], [detections], ("car", "bus"))
    assert with_area.ap_by_class == pytest.approx([1, 1])
    without = coco_ap([truth(objects)], [detections], ("car", "bus"))
    assert without.ap_by_class[label] == pytest.approx(1 / 3)
    assert without.ap_by_class[1 - label] == pytest.approx(1)


def test_an_ignored_area_takes_no_hit_away() -> None:
    scores = one_class([BOX], [(0, BOX, 0.9)], ignored=[[0, 0, 700, 300]])
    assert scores.ap == pytest.approx(1)


def test_nothing_found_is_zero() -> None:
    scores = one_class([BOX], [])
    assert (scores.ap, scores.ap50) == (0, 0)
    assert scores.precision.tolist() == [[0] * 101]


def test_no_object_at_all_is_nan_and_null() -> None:
    for rows in ([], [(0, BOX, 0.9)]):
        scores = one_class([], rows)
        assert math.isnan(scores.ap)
        figures = scores.as_dict()
        assert figures["ap"] is None
        assert figures["per_class"] == {"car": {"ap": None, "ap50": None}}
        assert figures["curves"] == {}


def test_a_class_without_objects_is_left_out_of_the_mean() -> None:
    scores = coco_ap([truth([(1, BOX)])], [found([(1, BOX, 0.5), (0, AWAY, 0.9)])], ("car", "bus"))
    assert scores.ap == pytest.approx(1)
    assert math.isnan(scores.ap_by_class[0])
    assert scores.ap_by_class[1] == pytest.approx(1)


def xywh(corners: list[float]) -> list[float]:
    return [*corners[:2], corners[2] - corners[0], corners[3] - corners[1]]


def evaluated(folder: Path, wanted: object, detections: object) -> CocoScores:
    (folder / "truth.json").write_text(json.dumps(wanted))
    (folder / "found.json").write_text(json.dumps(detections))
    return evaluate_coco(folder / "truth.json", folder / "found.json")


def test_files(tmp_path: Path) -> None:
    wanted = {
        "images": [{"id": 0, "file_name": "a.jpg"}],
        "categories": [{"id": 7, "name": "bus"}, {"id": 3, "name": "car"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 7, "bbox": xywh(BOX)}],
    }
    found = [
        {"image_id": 0, "category_id": 7, "bbox": xywh(BOX), "score": 0.5},
        {"image_id": 0, "category_id": 3, "bbox": xywh(BOX), "score": 0.9},
    ]
    scores = evaluated(tmp_path, wanted, found)
    assert scores.class_names == ("car", "bus")
    assert scores.ap_by_class.tolist()[1] == pytest.approx(1)
    assert scores.ap == pytest.approx(1)
    assert evaluated(tmp_path, wanted, []).ap == 0


def test_files_score_as_pycocotools_scores_them(shared_data: Path, tmp_path: Path) -> None:
    wanted = json.loads((shared_data / "road_objects" / "valid.json").read_text())
    wanted["images"] = wanted["images"][:80]
    kept = {row["id"] for row in wanted["images"]}
    wanted["annotations"] = [row for row in wanted["annotations"] if row["image_id"] in kept]
    rng = np.random.default_rng(0)
    detections = [
        {
            "image_id": row["image_id"],
            "category_id": row["category_id"] if rng.random() < 0.9 else 2,
            "bbox": (np.array(row["bbox"]) * rng.normal(1, 0.05, 4)).tolist(),
            "score": rng.random(),
        }
        for row in wanted["annotations"]
    ]
    scores = evaluated(tmp_path, wanted, detections)
    with redirect_stdout(io.StringIO()):
        official = COCO(str(tmp_path / "truth.json"))
        run = COCOeval(official, official.loadRes(detections), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    ours = (
        scores.ap, scores.ap50, scores.ap75, scores.ap_small, scores.ap_medium, scores.ap_large,
    )  # fmt: skip
    assert 0.1 < scores.ap < 0.9
    assert ours == pytest.approx(run.stats[:6].tolist())


def official_ap(
    content: object, results: list[dict[str, Any]], names: Sequence[str]
) -> list[float]:
    """pycocotools' AP and AP50 of some of a file's classes."""
    with redirect_stdout(io.StringIO()):
        index = COCO()
        index.dataset = copy.deepcopy(content)
        index.createIndex()
        run = COCOeval(index, index.loadRes(results), "bbox")
        run.params.catIds = index.getCatIds(catNms=list(names))
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [float(value) for value in run.stats[:2]]


@pytest.mark.parametrize("names", [("car",), ("bus", "car"), ("truck", "bus", "car")])
def test_a_split_scores_as_pycocotools_scores_its_file(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    # 30 images of three classes with crowds of each; detections near objects of every class, also
    # of classes that are not trained, and within crowds.
    rng = np.random.default_rng(3)
    categories = [{"id": 4, "name": "bus"}, {"id": 2, "name": "car"}, {"id": 9, "name": "truck"}]
    content: dict[str, Any] = {"images": [], "categories": categories, "annotations": []}
    (tmp_path / "train").mkdir()
    png = cv2.imencode(".png", np.zeros((200, 300, 3), np.uint8))[1].tobytes()
    results, detections = [], []
    for image in range(1, 31):
        (tmp_path / "train" / f"{image}.png").write_bytes(png)
        content["images"] += [
            {"id": image, "file_name": f"{image}.png", "height": 200, "width": 300}
        ]
        corner = rng.integers(0, 100, (8, 2))
        boxes = np.concatenate([corner, rng.integers(20, 90, (8, 2))], axis=1)
        kinds = rng.integers(0, 3, 8)
        content["annotations"] += [
            {
                "id": len(content["annotations"]) + i,
                "image_id": image,
                "category_id": categories[kind]["id"],
                "bbox": box.tolist(),
                "area": int(box[2] * box[3]),
                "iscrowd": int(i >= 6),
            }
            for i, (box, kind) in enumerate(zip(boxes, kinds, strict=True), 1)
        ]
        guesses = (boxes + rng.integers(-6, 7, boxes.shape)).clip(1)
        scores = rng.integers(1, 1000, 8) / 1024  # exact in float32
        for k, name in enumerate(names):
            results += [
                {
                    "image_id": image,
                    "category_id": next(c["id"] for c in categories if c["name"] == name),
                    "bbox": guess.tolist(),
                    "score": score,
                }
                for guess, score in zip(guesses, scores + k / 4096, strict=True)
            ]
        rows = [
            (k, [x, y, x + w, y + h], score + k / 4096)
            for k in range(len(names))
            for (x, y, w, h), score in zip(guesses.tolist(), scores.tolist(), strict=True)
        ]
        detections.append(found(rows))
    (tmp_path / "train.json").write_text(json.dumps(content))
    dataset = open_dataset("coco", tmp_path, "train", names)
    ours = coco_ap(dataset.truths, detections, names)
    theirs = official_ap(content, results, names)
    assert 0.05 < theirs[0] < 0.9
    assert [ours.ap, ours.ap50] == pytest.approx(theirs, abs=1e-6)
    ignored = open_dataset("coco", tmp_path, "train", names, "ignored").truths
    neutral = coco_ap(ignored, detections, names).ap
    assert (neutral > ours.ap + 0.01) == (len(names) < 3)
