from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgedetr.distill.evaluation.coco_task import CocoTask, read_task
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

BOX = [100.0, 100.0, 100.0, 100.0]


def task_of(folder: Path, wanted: object, detections: object) -> CocoTask:
    (folder / "truth.json").write_text(json.dumps(wanted))
    (folder / "found.json").write_text(json.dumps(detections))
    return read_task(folder / "truth.json", folder / "found.json")


def truth_file() -> dict[str, Any]:
    """One image, one bus; identifiers from 0, as some exporters number them."""
    return {
        "images": [{"id": 0, "file_name": "a.jpg"}],
        "categories": [{"id": 7, "name": "bus"}, {"id": 3, "name": "car"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 7, "bbox": BOX}],
    }


def results() -> list[dict[str, Any]]:
    return [
        {"image_id": 0, "category_id": 7, "bbox": BOX, "score": 0.5},
        {"image_id": 0, "category_id": 3, "bbox": BOX, "score": 0.9},
    ]


@pytest.mark.parametrize("flag", ["0", False, "false", 0])
def test_a_crowd_flag_as_text_is_read(tmp_path: Path, flag: object) -> None:
    wanted = truth_file()
    wanted["annotations"][0]["iscrowd"] = flag
    assert task_of(tmp_path, wanted, results()).truths[0]["iscrowd"] == 0
    wanted["annotations"][0]["iscrowd"] = "1"
    assert task_of(tmp_path, wanted, results()).truths[0]["iscrowd"] == 1


def test_a_root_category_that_nothing_uses_is_left_out(tmp_path: Path) -> None:
    wanted = truth_file()
    wanted["categories"].insert(0, {"id": 0, "name": "bus"})
    assert task_of(tmp_path, wanted, results()).categories == {7: "bus", 3: "car"}


def _set(rows: list[dict[str, Any]], key: str, value: object) -> None:
    rows[0][key] = value


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda t, _: t.pop("images"), "truth.json: found no list of images"),
        (lambda t, _: t.update(images=[]), "truth.json: found no image"),
        (lambda t, _: t["annotations"].append(5), "truth.json: annotations[1] is 5"),
        (lambda t, _: t["annotations"][0].pop("bbox"), "annotations[0] has no 'bbox'"),
        (lambda t, _: _set(t["annotations"], "area", "big"), "annotations[0] has the area 'big'"),
        (lambda t, _: _set(t["annotations"], "image_id", 9), "unknown image_id 9"),
        (lambda t, _: _set(t["categories"], "name", "car"), "two categories have the same name"),
        (lambda _, d: _set(d, "category_id", 1), "found.json: detections[0] has the unknown"),
        (lambda _, d: _set(d, "category_id", [7]), "category_id [7], wanted a whole number"),
        (lambda t, _: t["images"].append({"id": 0}), "two images have the id 0; each needs its"),
        (lambda t, _: _set(t["categories"], "id", 3), "two categories have the id 3; each"),
        (lambda t, _: _set(t["categories"], "name", ""), "categories[0] has the name '', wanted"),
        (lambda t, _: _set(t["annotations"], "iscrowd", "no"), "has the iscrowd 'no', wanted 0 or"),
        (lambda t, _: _set(t["annotations"], "image_id", True), "image_id True, wanted a whole"),
        (lambda t, _: _set(t["annotations"], "area", 10**400), "annotations[0] has the area 1000"),
        (lambda _, d: _set(d, "score", 10**400), "detections[0] has the score 1000"),
        (lambda _, d: _set(d, "score", math.nan), "detections[0] has the score nan"),
        (lambda _, d: _set(d, "score", None), "detections[0] has the score None"),
        (lambda _, d: _set(d, "bbox", [1, 2, 3]), "detections[0] has the bbox [1, 2, 3]"),
        (lambda _, d: _set(d, "bbox", [1, 2, -3, 4]), "detections[0] has the bbox [1, 2, -3, 4]"),
    ],
)
def test_bad_input_is_one_clear_line(
    tmp_path: Path, break_it: Callable[[Any, Any], object], message: str
) -> None:
    wanted, detections = truth_file(), results()
    break_it(wanted, detections)
    with pytest.raises(DataError) as error:
        task_of(tmp_path, wanted, detections)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"truth.json: found a list"):
        task_of(tmp_path, [], [])
    (tmp_path / "truth.json").write_text("{")
    with pytest.raises(DataError, match=r"truth.json: not a readable JSON file"):
        read_task(tmp_path / "truth.json", tmp_path / "found.json")
    (tmp_path / "found.json").write_text("[" * 100_000)
    (tmp_path / "truth.json").write_text(json.dumps(truth_file()))
    with pytest.raises(DataError, match=r"found.json: not a readable JSON file: nested too deeply"):
        read_task(tmp_path / "truth.json", tmp_path / "found.json")
    with pytest.raises(DataError, match=r"zero: not a readable JSON file: it is no regular file"):
        read_task(Path("/dev/zero"), tmp_path / "found.json")
    with pytest.raises(DataError, match=r"none.json: not a readable JSON file"):
        read_task(tmp_path / "none.json", tmp_path / "found.json")
