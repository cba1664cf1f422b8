import pytest

from edgedetr.distill.teacher_config import (
    TeacherInputConfig,
    check_class_map,
    check_normalization,
    names_of,
)
from edgedetr.runtime.spec import ModelSpec

CLASSES = ("Car", "Pedestrian", "Cyclist")


def test_a_class_has_one_name_or_several_or_none():
    found = {"Car": ["car", "truck"], "Cyclist": []}
    check_class_map(found, CLASSES)
    assert names_of(found, CLASSES) == (("car", "truck"), ("Pedestrian",), ())


@pytest.mark.parametrize(
    ("class_map", "message"),
    [
        ({"Caar": "car"}, "class_map names 'Caar'.*did you mean 'Car'"),
        ({"Car": 3}, "class_map.Car must be a name or a list of names, got 3"),
        ({"Car": ["car", ""]}, "must be a name or a list of names"),
        ({"Car": [], "Pedestrian": [], "Cyclist": []}, "gives the teacher no class"),
        ({"Car": ["Pedestrian"]}, "gives 'Pedestrian' to Car and to Pedestrian"),
    ],
)
def test_a_class_map_that_means_nothing_is_refused(class_map, message):
    with pytest.raises(ValueError, match=message):
        check_class_map(class_map, CLASSES)


def test_a_teachers_input_is_its_own_but_for_what_is_set():
    spec = ModelSpec((640, 640), CLASSES, mean=(0.5,) * 3, std=(0.2,) * 3)
    assert TeacherInputConfig().applied(spec) == spec
    found = TeacherInputConfig(input_hw=(96, 320), resize="stretch").applied(spec)
    assert (found.input_hw, found.resize, found.mean) == ((96, 320), "stretch", (0.5,) * 3)


def test_half_a_normalization_and_an_odd_size_are_refused():
    with pytest.raises(ValueError, match="mean and std belong together"):
        check_normalization((0.5,) * 3, None)
    with pytest.raises(ValueError, match="std of a model spec cannot be"):
        TeacherInputConfig(mean=(0.5,) * 3, std=(0.0,) * 3)
    with pytest.raises(ValueError, match=r"multiples of 32.*got \(100, 320\)"):
        TeacherInputConfig(input_hw=(100, 320))
