import pytest

from edgedetr.distill.labels.cityscapes_files import Kind
from edgedetr.runtime.errors import DataError

KIND = Kind("gtFine", "_gtFine_polygons")


def test_files_are_found_by_split_and_city_and_images_beside_them(tmp_path):
    for split, city in (("train", "bonn"), ("train", "aachen"), ("val", "ulm")):
        path = tmp_path / "gtFine" / split / city / "x_gtFine_polygons.json"
        path.parent.mkdir(parents=True)
        path.touch()
        (path.parent / "x_gtFine_color.png").touch()
        (path.parent / "._x_gtFine_polygons.json").touch()
    assert KIND.splits(tmp_path) == ("train", "val")
    cities = [path.parent.name for path in KIND.label_files(tmp_path, "all")]
    assert cities == ["aachen", "bonn", "ulm"]
    (labels,) = KIND.label_files(tmp_path, "val")
    image = tmp_path / "leftImg8bit" / "val" / "ulm" / "x_leftImg8bit.jpg"
    assert KIND.image_path(tmp_path, labels) == image.with_suffix(".png")
    image.parent.mkdir(parents=True)
    image.touch()
    assert KIND.image_path(tmp_path, labels) == image
    with pytest.raises(DataError, match=r"wanted gtFine/test/CITY/NAME_gtFine_polygons\.json"):
        KIND.label_files(tmp_path, "test")
