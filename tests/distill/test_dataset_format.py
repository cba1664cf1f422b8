import pytest

from edgedetr.distill.dataset_format import recognised
from edgedetr.runtime.errors import DataError


def test_a_folder_that_may_be_several_formats_is_refused(kitti):
    (kitti / "data.yaml").write_text("names: [car]\n", encoding="utf-8")
    with pytest.raises(DataError, match="may be kitti or yolo; choose one of them with --format"):
        recognised(kitti)
    assert recognised(kitti, "yolo") == "yolo"
    assert recognised(kitti, "kitti") == "kitti"


def test_a_folder_is_recognised_unless_a_format_is_given(kitti, tmp_path):
    assert recognised(kitti) == recognised(kitti, "auto") == "kitti"
    assert recognised(tmp_path / "nothing", "coco") == "coco"  # its own reader says it is missing
    with pytest.raises(DataError, match="looks like kitti, not voc"):
        recognised(kitti, "voc")
