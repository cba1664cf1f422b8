import pytest

from edgedetr.distill.labels.coco_entries import (
    class_name,
    crowd_flag,
    finite_number,
    reason,
    short,
    whole_number,
)


@pytest.mark.parametrize(
    ("read", "value", "wanted"),
    [
        (whole_number, " 12 ", 12),
        (whole_number, 3.0, 3),
        (finite_number, "1.5", 1.5),
        (crowd_flag, "True", True),
        (crowd_flag, 0, False),
        (class_name, "traffic light", "traffic light"),
    ],
)
def test_what_can_only_mean_one_thing_is_read(read, value, wanted):
    assert read(value) == wanted


@pytest.mark.parametrize(
    ("read", "value", "message"),
    [
        (whole_number, True, "True, wanted a whole number"),
        (whole_number, 1.5, "1.5, wanted a whole number"),
        (whole_number, "-1", "'-1', wanted a whole number"),
        (whole_number, 10**400, "wanted a number below 2.63"),
        (whole_number, 1e300, "wanted a number below 2.63"),
        (finite_number, "nan", "'nan', wanted finite numbers"),
        (finite_number, None, "None, wanted finite numbers"),
        (finite_number, 10**400, "wanted finite numbers"),
        (finite_number, -1e300, "wanted a number below 2.63"),
        (crowd_flag, 2, "iscrowd 2, wanted 0 or 1"),
        (class_name, "a\0b", "wanted printable text"),
    ],
)
def test_everything_else_is_refused(read, value, message):
    with pytest.raises(ValueError, match=message):
        read(value)


def test_values_are_shown_shortly():
    assert short("a" * 99) == "'" + "a" * 56 + "..."
    assert short(10**5000) == "a int too large to show"


def test_a_reason_names_the_key_or_the_value():
    assert reason(KeyError("bbox")) == "no 'bbox'"
    assert reason(TypeError("x")) == "no JSON object"
    assert reason(ValueError("5, wanted 6")) == "5, wanted 6"
