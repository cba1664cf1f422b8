"""What a user may name as a source, and what is refused."""

import cv2
import numpy as np
import pytest

from edgedetr.runtime.clock import StopFlag
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.sources.opening import open_source
from edgedetr.runtime.sources.playback import PacedSource, TimedSource
from edgedetr.runtime.sources.recordings import VideoRecording

MS = 1_000_000


def grey(level, hw=(32, 48)):
    return np.full((*hw, 3), level, np.uint8)


@pytest.fixture
def folder(tmp_path):
    for k in range(3):
        cv2.imwrite(str(tmp_path / f"{k:03d}.png"), grey(k))
    return tmp_path


def test_a_folder_is_played_in_the_order_of_its_names(folder):
    source = open_source(str(folder), 10, 1000 * MS)
    stop, names = StopFlag(), []
    while (capture := source.next(stop)) is not None and capture.frame is not None:
        names.append(capture.frame.frame_id)
        assert capture.frame.image[0, 0, 0] == int(names[-1])
    source.close()
    assert names[-1] == "002"


def test_what_is_no_source_is_said(tmp_path, folder):
    (tmp_path / "x.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"x\.mp4: OpenCV cannot play it"):
        open_source(str(tmp_path / "x.mp4"), 30, MS)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        open_source(str(tmp_path / "nowhere"), 30, MS)
    with pytest.raises(DataError, match="no such video"):
        VideoRecording(tmp_path / "y.mp4")
    cv2.imwrite(str(folder / "001.jpg"), grey(1))
    with pytest.raises(DataError, match="two images are called 001"):
        open_source(str(folder), 30, MS)


def test_a_missing_camera_is_said(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: ClosedCamera())
    with pytest.raises(DataError, match="camera 7: OpenCV cannot open it"):
        open_source("7", 30, MS)


class ClosedCamera:
    def isOpened(self):  # noqa: N802 - OpenCV's name
        return False


def test_a_rate_overrules_time_stamps(uneven):
    assert isinstance(open_source(uneven, None, MS), TimedSource)
    paced = open_source(str(uneven), 20, MS)
    assert (type(paced), paced.rate_hz) == (PacedSource, 20)


def test_home_is_found_in_a_source(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError, match=f"{tmp_path}/none: no such folder"):
        open_source("~/none", 30, MS)
