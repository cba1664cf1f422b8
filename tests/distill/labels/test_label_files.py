from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgedetr.distill.evaluation.kitti import evaluate_kitti
from edgedetr.distill.labels.label_files import read_label_json, read_label_text
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

LABEL_LINE = "Car 0.00 0 1.85 100.00 100.00 200.00 200.00 1.5 1.6 3.9 -16.5 2.4 58.5 1.6\n"
FOUND_LINE = "Car -1 -1 -10 100 100 200 200 -1 -1 -1 -1000 -1000 -1000 -10 0.9\n"


@pytest.mark.parametrize("read", [read_label_text, read_label_json])
def test_what_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: object
) -> None:
    monkeypatch.setattr("edgedetr.distill.labels.label_files.MOST_TEXT_BYTES", 8)
    monkeypatch.setattr("edgedetr.distill.labels.label_files.MOST_JSON_BYTES", 8)
    path = tmp_path / "labels"
    path.write_text("[1, 2]")
    read(path)  # type: ignore[operator]
    path.write_text("[1, 2, 3]")
    with pytest.raises(DataError, match=r"labels: not a readable .* file: it is larger than"):
        read(path)  # type: ignore[operator]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """41 frames, the car found in each."""
    labels, found = tmp_path / "label_2", tmp_path / "found"
    for folder, line in ((labels, LABEL_LINE), (found, FOUND_LINE)):
        folder.mkdir()
        for i in range(41):
            (folder / f"{i:06d}.txt").write_text(line)
    return labels, found


def test_a_byte_order_mark_is_no_part_of_the_first_type(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        for path in folder.iterdir():
            path.write_text(path.read_text(), encoding="utf-8-sig")
    assert evaluate_kitti(*folders).ap40[0].tolist() == [100] * 3


def test_what_is_left_out_is_named_with_counts(folders: tuple[Path, Path]) -> None:
    labels, found = folders
    (found / "000003.txt").write_text(FOUND_LINE + FOUND_LINE.replace("Car", "Truck") * 2)
    (found / "000004.txt").write_text(FOUND_LINE + FOUND_LINE.replace("Car", "\x1b[1mbus"))
    (labels / "000005.txt").write_text(LABEL_LINE + LABEL_LINE.replace("Car", "trolley"))
    (labels / "000099.txt").write_text(LABEL_LINE)
    (labels / "._000098.txt").write_bytes(b"\x00\x05\x16\x07")
    (found / "._000001.txt").write_bytes(b"\x00\x05\x16\x07")
    assert evaluate_kitti(labels, found).notes == (
        "detections of types that are not scored: \\x1b[1mbus 1, Truck 2",
        "labels of types that are not KITTI's: trolley 1",
        "label files without a result file, left out: 1",
    )


def test_detections_of_which_none_is_scored_are_refused(folders: tuple[Path, Path]) -> None:
    labels, found = folders
    for path in found.iterdir():
        path.write_text(FOUND_LINE.replace("Car", "vehicle"))
    with pytest.raises(DataError, match=r"no detection has a class that is scored .*vehicle 41"):
        evaluate_kitti(labels, found)


def test_paths_are_text_as_well(folders: tuple[Path, Path]) -> None:
    labels, found = map(str, folders)
    assert evaluate_kitti(labels, found).frames == 41
