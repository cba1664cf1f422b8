from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from edgedetr.distill.data import open_dataset
from edgedetr.distill.data.cityscapes import CLASSES, read
from edgedetr.distill.dataset_survey import survey
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Write = Callable[[Path], Path]

NAME = "aachen_000000_000019"
CAR = {"label": "car", "polygon": [[10, 30], [25, 20], [40, 65]]}


def folder(root: Path, write_image: Write, objects: object) -> Path:
    write_image(root / "leftImg8bit" / "train" / "aachen" / f"{NAME}_leftImg8bit.png")
    path = root / "gtFine" / "train" / "aachen" / f"{NAME}_gtFine_polygons.json"
    path.parent.mkdir(parents=True)
    content = {"imgHeight": 80, "imgWidth": 100, "objects": objects}
    path.write_text(json.dumps(content), encoding="utf-8")
    return root


def test_outer_boxes_groups_and_what_is_no_object(tmp_path: Path, write_image: Write) -> None:
    objects = [
        CAR,
        {"label": "cargroup", "polygon": [[0, 0], [9, 0], [9, 9]]},
        {"label": "persongroup", "polygon": [[0, 0], [9, 0], [9, 9]]},
        {"label": "road", "polygon": [[0, 0], [99, 0], [99, 79]]},
        {"label": "polegroup", "polygon": [[0, 0], [9, 0], [9, 9]]},
        {**CAR, "deleted": 1},
    ]
    dataset = open_dataset("auto", folder(tmp_path, write_image, objects), "train", ("car",))
    assert dataset.ids == (NAME,)
    truth = dataset.truths[0]
    assert truth.boxes.tolist() == [[10, 20, 40, 65]]
    assert (truth.ignored.tolist(), truth.ignored_by.tolist()) == ([[0, 0, 9, 9]], [0])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"label": "car"}, "no 'polygon'"),
        ({"label": "car", "polygon": []}, "polygon [], wanted a list of points"),
        ({"label": "car", "polygon": [[1, 2, 3]]}, "wanted a list of points"),
        ({"label": "car", "polygon": [[1, None]]}, "wanted finite numbers"),
        ({"label": 5, "polygon": []}, "wanted printable text"),
        (7, "no JSON object"),
    ],
)
def test_a_bad_object_is_named(
    tmp_path: Path, write_image: Write, entry: object, message: str
) -> None:
    (problem,) = survey(folder(tmp_path, write_image, [CAR, entry])).problems
    assert "polygons.json: objects[1]: " in problem
    assert message in problem


def test_a_file_without_objects_is_a_problem(tmp_path: Path, write_image: Write) -> None:
    root = folder(tmp_path, write_image, {"no": "list"})
    with pytest.raises(DataError, match="no list of objects; wanted imgHeight, imgWidth and obj"):
        open_dataset("cityscapes", root, "train", ("car",))


def test_the_classes_are_those_that_cityscapes_tells_apart() -> None:
    """Held to Cityscapes' own table of labels."""
    labels: Any = pytest.importorskip("cityscapesscripts.helpers.labels", exc_type=ImportError)
    assert {row.name for row in labels.labels if row.hasInstances} == set(CLASSES)


def test_cityscapes_own_reader_has_the_same_outer_boxes(tmp_path: Path, write_image: Write) -> None:
    annotation: Any = pytest.importorskip("cityscapesscripts.helpers.annotation")
    bus = {"label": "bus", "polygon": [[60, 5], [90, 7], [75, 33.5]]}
    root = folder(tmp_path, write_image, [CAR, bus, {**CAR, "deleted": 1}])
    theirs = annotation.Annotation(annotation.CsObjectType.POLY)
    theirs.fromJsonFile(str(next(root.glob("gtFine/**/*.json"))))
    wanted = [
        (
            obj.label,
            (*map(min, zip(*obj.polygon, strict=True)), *map(max, zip(*obj.polygon, strict=True))),
        )
        for obj in theirs.objects
        if not obj.deleted
    ]
    (frame,) = read(root, "train").frames
    assert [(obj.name, obj.box) for obj in frame.objects] == wanted
    assert frame.hw == (theirs.imgHeight, theirs.imgWidth)
