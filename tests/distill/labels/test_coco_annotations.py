import json

import pytest

from edgedetr.distill.labels.coco_annotations import CocoObject, read_annotations
from edgedetr.distill.labels.coco_files import Source
from edgedetr.runtime.errors import DataError


@pytest.fixture
def read(tmp_path):
    """Reads annotations of one image of 60 x 50 px, of which each is given by its changes."""
    (tmp_path / "x.png").touch()
    good = {"id": 1, "image_id": 5, "category_id": 3, "bbox": [10, 20, 5, 6]}

    def read_changed(*changes, **lists):
        content = {
            "images": [{"id": 5, "file_name": "x.png", "height": 50, "width": 60}],
            "categories": [{"id": 1, "name": "bus"}, {"id": 3, "name": "car"}],
            "annotations": [{**good, **change} for change in changes],
        }
        path = tmp_path / "train.json"
        path.write_text(json.dumps(content | lists), encoding="utf-8")
        return read_annotations(Source(path, tmp_path))

    return read_changed


def test_boxes_are_corners_and_crowds_are_marked(read, tmp_path):
    file = read({}, {"iscrowd": "true", "category_id": "1", "bbox": ["0", 0, 70, 9.5]})
    assert file.problems == []
    assert file.categories == {1: "bus", 3: "car"}
    (image,) = file.images
    assert (image.path, image.hw) == (tmp_path / "x.png", (50, 60))
    assert image.objects == [
        CocoObject(3, (10, 20, 15, 26), is_crowd=False),
        CocoObject(1, (0, 0, 70, 9.5), is_crowd=True),
    ]


def test_a_bad_annotation_is_named_and_the_good_ones_are_kept(read):
    file = read({}, {"id": 2, "image_id": 9}, {"id": 3, "category_id": 2}, {"id": 4, "bbox": [1]})
    assert file.problems == [
        "annotations[1] (id 2): no image has the id 9",
        "annotations[2] (id 3): no category has the id 2",
        "annotations[3] (id 4): bbox [1], wanted a list of four numbers; wanted image_id, "
        "category_id and bbox x y w h",
    ]
    assert len(file.images[0].objects) == 1


def test_boxes_without_area_are_counted_and_are_no_objects(read):
    file = read({}, {"bbox": [5, 5, 0, 9]}, {"bbox": [59.9999999, 5, 9, 9]})
    assert (file.num_boxes, file.num_flat) == (3, 2)
    assert len(file.images[0].objects) == 1


def test_an_image_that_two_ids_name_is_a_problem(read):
    image = {"file_name": "x.png", "height": 50, "width": 60}
    file = read({}, images=[{"id": 5, **image}, {"id": 6, **image}])
    (problem,) = file.problems
    assert "has the ids 5 and 6; list it once" in problem
    assert file.images == []


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"images": []}, "lists no image"),
        ({"images": {}}, "no list of images"),
        ({"images": [{"id": 1}]}, r"images\[0\]: no 'file_name'"),
        ({"categories": [{"id": 1, "name": " "}]}, "name ' ', wanted printable text"),
        ({"annotations": None}, "no list of annotations"),
    ],
)
def test_what_is_no_annotation_file_is_refused(read, lists, message):
    with pytest.raises(DataError, match=message):
        read(**lists)
