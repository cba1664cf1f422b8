from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgedetr.distill.dataset_page import GREY, chosen, drawn, num_doubled, size_rows, write_page
from edgedetr.distill.labels.frames import CheckedFrame, LabelledObject
from edgedetr.runtime.draw import class_colour
from edgedetr.runtime.errors import DataError

BOX = (10.0, 20.0, 40.0, 65.0)
CAR = LabelledObject("car", BOX)


def frame(name: str, *objects: LabelledObject) -> CheckedFrame:
    return CheckedFrame(Path(f"{name}.png"), name, (80, 100), list(objects))


def test_the_page_stands_alone_and_shows_problems_first(kitti: Path, tmp_path: Path) -> None:
    for name in ("000000", "000001"):
        (kitti / "training" / "label_2" / f"{name}.txt").write_text("<b> 0\n", encoding="utf-8")
    out = tmp_path / "page.html"
    found = write_page(kitti, out, None, 3)
    text = out.read_text(encoding="utf-8")
    assert len(found.problems) == 2
    assert "<script" not in text
    assert 'src="http' not in text
    assert text.count("data:image/jpeg;base64,") == 3
    assert text.index("Problems, the most frequent first") < text.index("<h2>Classes</h2>")
    assert '<td class="number">2</td><td>...: found # columns, wanted #' in text


def test_a_folder_without_a_data_set_gives_no_page(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no data set"):
        write_page(tmp_path, tmp_path / "page.html", None, 3)
    assert not (tmp_path / "page.html").exists()


def test_doubled_boxes_are_of_one_class_and_come_first() -> None:
    near = CAR._replace(box=(10.0, 20.0, 40.0, 66.0))  # an IoU of 45 / 46
    assert num_doubled(frame("a", CAR, near)) == 1
    assert num_doubled(frame("a", CAR, near._replace(name="bus"))) == 0
    assert num_doubled(frame("a", CAR, near._replace(is_ignored=True))) == 0
    assert num_doubled(frame("a", CAR, CAR._replace(box=(10.0, 20.0, 40.0, 70.0)))) == 0
    frames = [frame(str(i)) for i in range(10)]
    names = [f.name for f in chosen(frames, {"7": 1, "8": 3}, 6)]
    assert names == ["8", "7", "0", "2", "4", "6"]
    assert len(chosen(frames, {}, 40)) == 10


def test_sizes_are_counted_by_cocos_limits() -> None:
    boxes = [(0.0, 0.0, side, side) for side in (31, 32, 96, 97)]
    found = size_rows([frame("a", *[CAR._replace(box=box) for box in boxes])], ["car"])
    assert found == [("car", 1, 2, 1)]


def test_boxes_have_the_colour_of_their_class_and_ignored_areas_are_grey() -> None:
    image = np.zeros((80, 100, 3), np.uint8)
    area = LabelledObject("", (60, 20, 90, 60), is_ignored=True)
    picture = drawn(image, frame("a", CAR._replace(name="bus"), area), ["car", "bus"])
    assert tuple(picture[40, 10]) == class_colour(1)
    assert tuple(picture[40, 60]) == GREY
    assert not image.any()
