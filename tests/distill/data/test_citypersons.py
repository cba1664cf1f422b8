from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from edgedetr.distill.data import open_dataset
from edgedetr.distill.data.citypersons import read
from edgedetr.distill.dataset_survey import survey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Write = Callable[[Path], Path]


def person(label: str = "pedestrian", seen: float = 40) -> dict[str, object]:
    return {
        "label": label,
        "instanceId": 1,
        "bbox": [10, 20, 20, 40],
        "bboxVis": [10, 20, 20, seen],
    }


def folder(root: Path, write_image: Write, objects: list[object]) -> Path:
    write_image(root / "leftImg8bit" / "val" / "bonn" / "x_leftImg8bit.png")
    path = root / "gtBboxCityPersons" / "val" / "bonn" / "x_gtBboxCityPersons.json"
    path.parent.mkdir(parents=True)
    content = {"imgHeight": 80, "imgWidth": 100, "objects": objects}
    path.write_text(json.dumps(content), encoding="utf-8")
    return root


def test_whole_bodies_hidden_shares_and_areas_to_ignore(tmp_path: Path, write_image: Write) -> None:
    objects = [person(), person(seen=36), person(seen=37), person(seen=26), person(seen=27)]
    ignored = [person("ignore"), person("person group"), person("rider")]
    root = folder(tmp_path, write_image, [*objects, *ignored])
    truth = open_dataset("auto", root, "val", ("pedestrian",)).truths[0]
    assert truth.boxes.tolist() == [[10, 20, 30, 60]] * 5
    assert truth.occlusion.tolist() == [0, 1, 0, 2, 1]
    assert truth.ignored_by.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (person("persn"), "label 'persn', wanted one of pedestrian, rider"),
        ({"label": "rider", "bbox": [1, 2, 3]}, "bbox [1, 2, 3], wanted x y w h"),
        ({"label": "rider"}, "no 'bbox'"),
    ],
)
def test_a_bad_box_is_named(
    tmp_path: Path, write_image: Write, entry: dict[str, object], message: str
) -> None:
    (problem,) = survey(folder(tmp_path, write_image, [person(), entry])).problems
    assert "objects[1]: " in problem
    assert message in problem


def test_citypersons_own_reader_has_the_same_boxes(tmp_path: Path, write_image: Write) -> None:
    annotation: Any = pytest.importorskip("cityscapesscripts.helpers.annotation")
    labels: Any = pytest.importorskip("cityscapesscripts.helpers.labels_cityPersons")
    given = [person(label) for label in labels.name2labelCp]
    root = folder(tmp_path, write_image, [*given])
    theirs = annotation.Annotation(annotation.CsObjectType.BBOX2D)
    theirs.fromJsonFile(str(next(root.glob("gtBboxCityPersons/**/*.json"))))
    (frame,) = read(root, "val").frames
    assert [list(obj.box) for obj in frame.objects] == [obj.bbox_amodal for obj in theirs.objects]
    ignored = [labels.name2labelCp[obj.label].ignoreInEval for obj in theirs.objects]
    assert [obj.is_ignored for obj in frame.objects] == ignored
