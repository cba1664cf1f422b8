"""KITTI's files of tracks are read column by column, and refused with file and line."""

import json

import numpy as np
import pytest

from edgedetr.distill.labels import kitti_tracks
from edgedetr.distill.labels.kitti_tracks import read_tracks
from edgedetr.runtime.errors import DataError

ROW = "3 12 Van 1 2 -1.5 10.5 20 30 40 1.5 1.6 3.9 -16.5 2.4 58.5 1.6"
AREA = "0 -1 DontCare -1 -1 -10 0 0 9 9 -1000 -1000 -1000 -10 -1 -1 -1"


def test_columns(tmp_path):
    path = tmp_path / "0000.txt"
    path.write_text(f"{AREA}\n\n{ROW}\n", encoding="utf-8")
    found = read_tracks(path)
    assert found.frames.tolist() == [0, 3]
    assert found.tracks.tolist() == [-1, 12]
    assert found.types.tolist() == ["DontCare", "Van"]
    assert (found.truncated.tolist(), found.occluded.tolist()) == ([-1, 1], [-1, 2])
    np.testing.assert_array_equal(found.boxes[1], [10.5, 20, 30, 40])
    path.write_text("", encoding="utf-8")
    assert len(read_tracks(path)) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{ROW}\n{ROW} 0.5 1", "0000.txt:2: found 19 columns, wanted 17"),
        (ROW.replace("12", "x", 1), "0000.txt:1: 'x', wanted finite numbers; wanted frame"),
        (ROW.replace("12", "1e12", 1), "0000.txt:1: '1e12', wanted a number below"),
        (ROW.replace("10.5", "wide"), "0000.txt:1: found 'wide', wanted a finite number"),
        (f"{ROW}\n{ROW}", r"track 12 \(Van\) has two boxes in frame 3"),
    ],
)
def test_bad_lines_are_named(tmp_path, text, message):
    path = tmp_path / "0000.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_tracks(path)


def test_a_frame_has_so_many_boxes_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(kitti_tracks, "MOST_BOXES", 2)
    path = tmp_path / "0000.txt"
    lines = [ROW.replace(" 12 ", f" {track} ") for track in range(3)]
    path.write_text("\n".join(lines[:2]), encoding="utf-8")
    assert len(read_tracks(path)) == 2
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match="frame 3 has 3 boxes, wanted at most 2"):
        read_tracks(path)


def test_lines_of_a_stream(tmp_path):
    path = tmp_path / "frames.jsonl"
    car = {"class": "Car", "score": 0.5, "box": [1, 2, 3, 4]}
    row = {"frame": "000007", "detections": [car | {"track": 2}, car | {"track": None}]}
    path.write_text(json.dumps(row), encoding="utf-8")
    found = read_tracks(path)
    assert (found.frames.tolist(), found.tracks.tolist()) == ([7], [2])
    assert found.boxes.tolist() == [[1, 2, 3, 4]]
    path.write_text(json.dumps(row | {"frame": "left"}), encoding="utf-8")
    with pytest.raises(DataError, match=r"frames.jsonl:1: 'left', .* frames named by their number"):
        read_tracks(path)
