"""The video of a stream's results."""

import shutil

import cv2
import numpy as np

from edgedetr.runtime import Frame
from edgedetr.runtime.stream import result_video
from edgedetr.runtime.stream.result_files import ResultFiles
from edgedetr.runtime.stream.stream import StreamResult

NAMES = ("Car", "Big van")


def test_frames_of_another_size_fit_into_the_video(result, tmp_path):
    large = StreamResult(
        Frame(np.zeros((40, 90, 3), np.uint8)), result().detections, None, 1, 1, 0, missed=False
    )
    with ResultFiles(None, tmp_path / "v.mp4", rate_hz=30, class_names=NAMES) as files:
        files.write(result())
        files.write(large)
    played = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    assert played.get(cv2.CAP_PROP_FRAME_COUNT) == 2
    played.release()


def test_a_video_ends_while_there_is_room_for_its_end(result, tmp_path, monkeypatch):
    """Three frames fit; the video is whole without the others."""
    rooms = [1 << 30] * 3 + [1 << 18] * 3
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Room(rooms.pop(0)))
    told: list[str] = []
    with ResultFiles(
        None, tmp_path / "v.mp4", rate_hz=30, class_names=NAMES, on_problem=told.append
    ) as files:
        for _ in range(5):
            files.write(result())
    assert told == [files.problem]
    assert files.problem.endswith("after 3 frames: " + f"{tmp_path}/v.mp4: No space left on device")
    played = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    assert played.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    played.release()
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


class Room:
    def __init__(self, free):
        self.free = free


def test_a_video_that_is_not_whole_is_removed(result, tmp_path, monkeypatch):
    monkeypatch.setattr(result_video, "_frames_in", lambda _: 0)
    with ResultFiles(None, tmp_path / "v.mp4", rate_hz=30, class_names=NAMES) as files:
        files.write(result())
    assert files.problem.endswith("v.mp4: the video is not whole and is removed")
    assert list(tmp_path.iterdir()) == []
