"""Folders, videos and cameras as sources."""

import queue
import threading
from typing import Any

import cv2
import numpy as np
import pytest

from edgedetr.runtime.clock import StopFlag
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.sources.camera import CameraSource, open_camera
from edgedetr.runtime.sources.recordings import (
    FolderRecording,
    PacedSource,
    VideoRecording,
    open_source,
)

MS = 1_000_000
SECONDS = 10


class StillClock:
    """Time passes only while somebody waits."""

    def __init__(self):
        self.ns = 0

    def now_ns(self):
        return self.ns

    def wait_until(self, time_ns, _):
        self.ns = max(self.ns, time_ns)


def grey(level, hw=(32, 48)):
    return np.full((*hw, 3), level, np.uint8)


@pytest.fixture
def video(tmp_path):
    """An MP4 of ten frames, each redder than the one before."""
    path = tmp_path / "drive.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (48, 32))
    for k in range(10):
        writer.write(np.dstack([np.zeros((32, 48, 2), np.uint8), grey(20 * k)[..., :1]]))
    writer.release()
    return path


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


def test_a_video_is_played_as_rgb_and_skipped_through(video):
    clock = StillClock()
    source = PacedSource(VideoRecording(video), 10, 1000 * MS, clock)
    stop, seen = StopFlag(), []
    while (capture := source.next(stop)) is not None and capture.frame is not None:
        seen.append((capture.frame.frame_id, capture.dropped))
        number = int(capture.frame.frame_id)
        red, green, _ = capture.frame.image.reshape(-1, 3).mean(axis=0)
        assert red == pytest.approx(20 * number, abs=12)
        assert green < 12
        clock.ns += 250 * MS
    assert capture is not None
    assert capture.dropped == 2  # 8 and 9 came while 7 was looked at, and nothing after them
    assert source.next(stop) is None
    source.close()
    assert seen == [("000000", 0), ("000002", 1), ("000005", 2), ("000007", 1)]


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


@pytest.mark.parametrize("number", ["1000", "2147483648", "9" * 20])
def test_a_number_that_no_camera_has_is_refused(number):
    with pytest.raises(DataError, match="cameras have numbers up to 999"):
        open_camera(number, 30)


def test_a_camera_is_asked_for_its_rate(monkeypatch):
    camera: Any = ClosedCamera(is_open=True)
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: camera)
    assert open_camera("/dev/video0", 25) == camera
    assert camera.asked[cv2.CAP_PROP_FPS] == 25


class ClosedCamera:
    def __init__(self, *, is_open=False):
        self.is_open, self.asked = is_open, {}

    def isOpened(self):  # noqa: N802 - OpenCV's name
        return self.is_open

    def set(self, what, value):
        self.asked[what] = value


class FakeCamera:
    """Gives what is put into its queue, and waits when that is empty."""

    def __init__(self):
        self.pictures: queue.Queue[Any] = queue.Queue()
        self.taken = threading.Semaphore(0)
        self.is_released = False

    def read(self):
        self.taken.release()  # whatever came before is in the source's hands
        picture = self.pictures.get()
        return picture is not None, picture

    def release(self):
        self.is_released = True

    def show(self, *pictures):
        """Let the source's thread take these."""
        for picture in pictures:
            self.taken.acquire(timeout=SECONDS)
            self.pictures.put(picture)
        assert self.taken.acquire(timeout=SECONDS)
        self.taken.release()


@pytest.fixture
def camera():
    return FakeCamera()


@pytest.fixture
def source(camera):
    found = CameraSource(camera, 100 * MS, StillClock(), silence_s=SECONDS)
    yield found
    camera.pictures.put(None)
    camera.pictures.put(None)
    found.close()
    found.close()
    assert camera.is_released


def test_a_camera_gives_its_newest_frame(camera, source):
    camera.show(grey(1))
    first = source.next(StopFlag())
    camera.show(grey(2), grey(3), grey(4))
    second = source.next(StopFlag())
    assert (first.frame.frame_id, first.dropped) == ("000000", 0)
    assert (second.frame.frame_id, second.dropped) == ("000003", 2)
    assert second.frame.image[0, 0, 0] == 4


def test_what_came_before_anybody_asked_is_not_dropped(camera, source):
    camera.show(grey(1), grey(2), grey(3))
    first = source.next(StopFlag())
    assert (first.frame.frame_id, first.dropped) == ("000002", 0)


def test_a_camera_s_old_frame_is_waited_out(camera, source):
    camera.show(grey(0))
    source.next(StopFlag())
    camera.show(grey(1))
    source._clock.ns += 100 * MS
    threading.Timer(0.05, camera.show, [grey(2)]).start()
    capture = source.next(StopFlag())
    assert (capture.frame.image[0, 0, 0], capture.dropped) == (2, 1)


def test_a_camera_s_colours_are_rgb(camera, source):
    picture = grey(0)
    picture[..., 2] = 200
    camera.show(picture)
    assert source.next(StopFlag()).frame.image[0, 0].tolist() == [200, 0, 0]


def test_a_camera_s_odd_frame_is_a_problem_and_not_the_end(camera, source):
    camera.show(np.zeros((4, 4, 7), np.uint8))
    capture = source.next(StopFlag())
    assert capture.frame is None
    assert "000000: the camera gave no colour image" in capture.problem
    camera.show(grey(3))
    assert source.next(StopFlag()).frame.frame_id == "000001"


def test_a_failing_read_is_tried_again(camera, source):
    camera.show(None, None, grey(3))
    assert source.next(StopFlag()).frame.frame_id == "000000"


def test_a_silent_camera_is_lost(source):
    source._silence_s = 0.3
    with pytest.raises(DataError, match=r"the camera gave no frame for 0\.3 s"):
        source.next(StopFlag())


def test_stop_ends_the_wait_for_a_camera(source):
    stop = StopFlag()
    threading.Timer(0.05, stop.set).start()
    assert source.next(stop) is None


def test_a_camera_whose_driver_hangs_does_not_hang_the_end(camera, monkeypatch):
    monkeypatch.setattr("edgedetr.runtime.sources.camera._JOIN_S", 0.05)
    source = CameraSource(camera, 100 * MS, StillClock())
    source.close()
    assert not camera.is_released
    camera.pictures.put(None)


def test_an_empty_list_is_over_at_once():
    source = PacedSource(FolderRecording([]), 10, MS, StillClock())
    assert source.next(StopFlag()) is None
