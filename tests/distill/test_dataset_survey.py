import cv2
import pytest

from edgedetr.distill.dataset_survey import Survey, survey
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.images import read_image


def test_the_summary_counts_in_the_singular_and_in_the_plural():
    found = Survey()
    assert found.summary() == "0 good frames (0 empty), 0 objects; 0 problems"
    found.add(["Car"], [1])
    found.problems.append("a problem")
    assert found.summary() == "1 good frame (0 empty), 1 object: Car 1; 1 problem"
    found.add([], [])
    found.add(["Van", "Car"], [0, 3])
    assert found.summary() == "3 good frames (1 empty), 3 objects: Car 2 Van 1; 1 problem"
    assert dict(found.difficulty) == {"moderate": 1, "easy": 1, "none": 1}


def test_the_format_is_detected_from_the_folder(kitti, tmp_path):
    assert survey(kitti).frames == 6
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco/train.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="not a COCO annotation file"):
        survey(tmp_path / "coco")


def test_a_folder_without_a_data_set_is_refused(tmp_path):
    (tmp_path / "._train.json").write_bytes(b"hidden")
    with pytest.raises(DataError, match="holds no data set; wanted one of these formats: bdd100k"):
        survey(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        survey(tmp_path / "nothing")


def test_a_damaged_jpeg_is_a_problem(kitti):
    picture = kitti / "training/image_2/000000.png"
    data = cv2.imencode(".jpg", read_image(picture))[1].tobytes()
    middle = (data.rfind(b"\xff\xda") + len(data)) // 2
    picture.write_bytes(data)
    assert survey(kitti, decode=True).problems == []
    picture.write_bytes(data[:middle] + data[middle - 100 :])
    assert survey(kitti).problems == []  # its header is right
    (problem,) = survey(kitti, decode=True).problems
    assert "000000.png: its pixel data is damaged (Corrupt JPEG data" in problem
