from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from edgedetr.distill.data import open_dataset
from edgedetr.distill.dataset_conversion import convert
from edgedetr.distill.dataset_survey import survey
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Write = Callable[[Path], Path]

ROW: dict[str, Any] = {
    "key.segment_context_name": "100_20", "key.frame_timestamp_micros": 1507, "key.camera_name": 1,
    "[CameraBoxComponent].box.center.x": 25.0, "[CameraBoxComponent].box.center.y": 42.5,
    "[CameraBoxComponent].box.size.x": 30.0, "[CameraBoxComponent].box.size.y": 45.0,
    "[CameraBoxComponent].type": 1,
}  # fmt: skip
TYPE = "[CameraBoxComponent].type"


def folder(root: Path, write_image: Write, rows: object) -> Path:
    for camera in (1, 2):
        write_image(root / "training" / "camera_image" / f"100_20_1507_{camera}.jpg")
    (root / "training" / "camera_box").mkdir()
    table = root / "training" / "camera_box" / "100_20.json"
    table.write_text(json.dumps(rows), encoding="utf-8")
    return root


def test_rows_go_to_their_images_and_unknown_types_are_ignored(
    tmp_path: Path, write_image: Write
) -> None:
    rows = [ROW, {**ROW, TYPE: 4}, {**ROW, TYPE: 0}]
    dataset = open_dataset("auto", folder(tmp_path, write_image, rows), "train", ("Vehicle",))
    assert dataset.ids == ("100_20_1507_1", "100_20_1507_2")
    assert dataset.truths[0].boxes.tolist() == [[10, 20, 40, 65]]
    assert dataset.truths[0].ignored_by.tolist() == [-1]
    assert dataset.truths[1].labels.tolist() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({TYPE: 5}, "type 5, wanted 0 to 4"),
        ({TYPE: None}, "None, wanted a whole number"),
        ({"key.camera_name": 3}, "no image 100_20_1507_3 in training/camera_image"),
        ({"[CameraBoxComponent].box.size.x": "wide"}, "'wide', wanted finite numbers"),
    ],
)
def test_a_bad_row_is_named(
    tmp_path: Path, write_image: Write, change: dict[str, Any], message: str
) -> None:
    (problem,) = survey(folder(tmp_path, write_image, [ROW, {**ROW, **change}])).problems
    assert "100_20.json: rows[1]: " in problem
    assert message in problem


def test_what_is_no_table_is_refused(tmp_path: Path, write_image: Write) -> None:
    with pytest.raises(DataError, match="not a table of Waymo's boxes; wanted a list of rows"):
        open_dataset("waymo", folder(tmp_path, write_image, {}), "train", ("Vehicle",))


def test_parquet_without_pyarrow_is_one_line(
    tmp_path: Path, write_image: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path, write_image, [])
    (root / "training" / "camera_box" / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="parquet needs pyarrow, which is not installed"):
        open_dataset("waymo", root, "train", ("Vehicle",))


def test_parquet_is_read_as_the_same_rows(tmp_path: Path, write_image: Write) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    root = folder(tmp_path, write_image, [ROW])
    expected = open_dataset("waymo", root, "train", ("Vehicle",)).truths[0].boxes.tolist()
    table = root / "training" / "camera_box" / "100_20.json"
    table.unlink()
    parquet.write_table(pyarrow.Table.from_pylist([ROW]), table.with_suffix(".parquet"))
    found = open_dataset("waymo", root, "train", ("Vehicle",)).truths[0].boxes.tolist()
    assert found == expected == [[10, 20, 40, 65]]
    convert(root, tmp_path / "kitti", "kitti")
    lines = (tmp_path / "kitti/training/label_2/100_20_1507_1.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["Vehicle"]
    assert [float(word) for word in lines[0].split()[4:8]] == [10, 20, 40, 65]
    table.with_suffix(".parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(DataError, match="not a table of Waymo's boxes"):
        open_dataset("waymo", root, "train", ("Vehicle",))
