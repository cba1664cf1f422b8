"""`Detections` to and from COCO's results."""

import pytest

from edgedetr.runtime.conversions.coco import from_coco, to_coco
from edgedetr.runtime.errors import DataError


def test_results_have_corner_and_size_and_categories_from_one(found):
    assert to_coco(found, 7) == [
        {"image_id": 7, "category_id": 2, "bbox": [10, 20, 30, 45], "score": 0.9},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 100, 80], "score": 0.25},
    ]


def test_what_is_written_is_read_by_image(found, same):
    rows = [*to_coco(found, 7), *to_coco(found, 8)]
    same(from_coco(rows, 8), found)
    assert len(from_coco(rows, 9)) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bbox": [1, 2, 3]}, "not COCO results: wanted image_id"),
        ({"score": None}, "not COCO results: wanted image_id"),
        ({"category_id": 0}, "a label is negative"),
    ],
)
def test_what_is_no_result(found, changes, message):
    row = to_coco(found, 7)[0] | changes
    with pytest.raises(DataError, match=message):
        from_coco([row], 7)


def test_a_missing_key_is_named(found):
    row = to_coco(found, 7)[0]
    del row["score"]
    with pytest.raises(DataError, match="found 'score'"):
        from_coco([row], 7)
