"""`Detections` to and from YOLO's text."""

import pytest

from edgedetr.runtime.conversions.yolo import from_yolo, to_yolo
from edgedetr.runtime.errors import DataError

HW = (80, 100)


def test_a_line_has_class_centre_and_size_in_shares_and_score(found):
    first = to_yolo(found, HW).splitlines()[0]
    assert first == "1 0.2500000 0.5312500 0.3000000 0.5625000 0.900000"


def test_what_is_written_is_read(found, same):
    same(from_yolo(to_yolo(found, HW), HW), found)
    assert len(from_yolo("", HW)) == 0


@pytest.mark.parametrize(
    "line", ["1 0.5 0.5 0.1 0.1", "1.5 0.5 0.5 0.1 0.1 0.9", "", "a b c d e f"]
)
def test_what_is_no_result(line):
    with pytest.raises(DataError, match="line 1: wanted class cx cy w h score"):
        from_yolo(f"{line}\n", HW)
