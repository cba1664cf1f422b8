"""Cameras that are slow, silent, odd or stuck, and what a message holds of their URL."""

import queue
import threading
from typing import Any

import cv2
import numpy as np
import pytest

from edgedetr.runtime.clock import StopFlag
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.sources.camera import CameraSource, is_live, open_camera

MS = 1_000_000
SECONDS = 10


def grey(level, hw=(32, 48)):
    return np.full((*hw, 3), level, np.uint8)


@pytest.mark.parametrize("number", ["1000", "2147483648", "9" * 20, "9" * 5000])
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
def source(camera, clock):
    found = CameraSource(camera, 100 * MS, clock, silence_s=SECONDS)
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


def test_a_camera_whose_driver_hangs_does_not_hang_the_end(camera, clock, monkeypatch):
    monkeypatch.setattr("edgedetr.runtime.sources.camera._JOIN_S", 0.05)
    source = CameraSource(camera, 100 * MS, clock)
    source.close()
    assert not camera.is_released
    camera.pictures.put(None)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("rtsp://admin:hush@127.0.0.1:1/s?token=hush", "camera rtsp://127.0.0.1:1"),
        ("rtsp://admin:hu/sh@127.0.0.1:1/hush", "camera rtsp://..."),
        ("http://127.0.0.1:1/user=a_password=hush", "camera http://127.0.0.1:1"),
        ("ftp://a:hush@127.0.0.1/x.mp4", "camera ftp://127.0.0.1: wanted a URL of rtsp,"),
        (
            "rtspsrc location=rtsp://a:hush@h ! decodebin name=hush ! appsink",
            "pipeline rtspsrc ! decodebin ! appsink",
        ),
    ],
)
def test_no_message_holds_a_password(text, name, capfd):
    with pytest.raises(DataError) as error:
        open_camera(text, 30)
    assert str(error.value).startswith(name)
    out, err = capfd.readouterr()
    assert "hush" not in str(error.value) + out + err


def test_a_file_is_no_camera_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a ! b").mkdir()
    assert not is_live("a ! b")
    assert not is_live(str(tmp_path))
    assert not is_live("/dev/shm")  # noqa: S108
    assert is_live("/dev/video7")
    assert is_live("rtsp://127.0.0.1/")
