from edgedetr.runtime.save_formats import SAVE_FORMATS
from edgedetr.runtime.saved_results import result_writer


def test_each_format_has_a_writer_that_leaves_a_file_or_nothing(tmp_path):
    for kind in SAVE_FORMATS:
        folder = tmp_path / kind
        folder.mkdir()
        result_writer(kind, folder, ("Car",)).close()
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert left == {"coco/detections.json", "coco/images.json", "yolo/classes.txt"}
