"""``edgedetr run`` and what it leaves on disk, also where the disk is full or somebody stops it."""

import errno
import json

import numpy as np

from edgedetr.runtime.stream import result_files
from edgedetr.runtime.stream.result_files import ResultFiles

NAMES = ("Car", "Big van")


def lines_of(folder):
    return [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]


def test_a_line_holds_what_was_measured_and_found(result, tmp_path):
    with ResultFiles(tmp_path, None, rate_hz=30, class_names=NAMES) as files:
        files.write(result())
        files.write(result("000002", 2, np.array([4, 0])))
    files.close()
    found = {"class": "Big van", "score": 0.75, "box": [1.0, 2.0, 30.5, 15.0]}
    one, two = lines_of(tmp_path)
    assert one == {
        "frame": "000001",
        "captured_ns": 5,
        "age_ms": 7.654,
        "latency_ms": 6.0,
        "dropped": 2,
        "missed": True,
        "detections": [found],
    }
    assert two["detections"] == [found | {"track": 4}, found | {"track": None}]
    assert (tmp_path / "000001.txt").read_text().startswith("Big_van ")


def test_a_full_disk_ends_the_writing_and_is_told_once(result, tmp_path, monkeypatch):
    told: list[str] = []

    def full(path, _):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with ResultFiles(
        tmp_path, None, rate_hz=30, class_names=NAMES, on_problem=told.append
    ) as files:
        files.write(result())
        monkeypatch.setattr(result_files, "write_text", full)
        files.write(result("000002"))
        monkeypatch.undo()
        files.write(result("000003"))
    assert files.written == 1
    assert len(told) == 1
    assert "after 1 frame: " in told[0]
    assert told[0].endswith("000002.txt: No space left on device")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000001.txt", "frames.jsonl"]


def test_an_unwritable_video_ends_the_writing(result, tmp_path):
    (tmp_path / "v.mp4").mkdir()
    with ResultFiles(None, tmp_path / "v.mp4", rate_hz=30, class_names=NAMES) as files:
        files.write(result())
    assert "v.mp4: Is a directory" in files.problem
