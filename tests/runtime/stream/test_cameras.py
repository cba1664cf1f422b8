"""Several cameras on one model: each has its own results, and its own end."""

import json
from functools import partial
from typing import Any

import numpy as np
import pytest

from edgedetr.runtime import Detections, Detector, Frame
from edgedetr.runtime.detector import State
from edgedetr.runtime.errors import BackendError, DataError, StuckError
from edgedetr.runtime.inference.batching import Batcher
from edgedetr.runtime.sources.capture import Capture
from edgedetr.runtime.stream.cameras import Camera, run_cameras, stop_cameras
from edgedetr.runtime.stream.result_files import ResultFiles
from edgedetr.runtime.stream.stream import Stream

NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
LONG_NS = 60_000_000_000


class Frames:
    """Grey frames, brighter from camera to camera; then the end, or the camera is lost."""

    def __init__(self, camera, count=3, *, is_lost=False):
        self.count, self.is_lost, self.done = count, is_lost, 0
        self.images = [np.full((20, 40, 3), 40 * camera + 9 * k, np.uint8) for k in range(count)]

    def next(self, stop):
        if self.done < self.count and not stop.is_set():
            self.done += 1
            return Capture(Frame(self.images[self.done - 1], 0, f"{self.done:03d}"), "", 0)
        if self.is_lost:
            raise DataError("the camera gave no frame for 5 s")
        return None

    def close(self):
        pass


class Endless:
    """The same frame for ever."""

    def __init__(self, camera):
        self.frames = Frames(camera)

    def next(self, stop):
        self.frames.done = 0
        return None if stop.is_set() else self.frames.next(stop)

    def close(self):
        pass


def camera(detector, source, name="", out=None, **how):
    stream = Stream(detector, source, deadline_ns=10**18)
    files = ResultFiles(out, None, rate_hz=30, class_names=("Car", "Pedestrian"))
    return Camera(name, stream, files, out, how.pop("on_result", lambda _: None), **how)


def lines(folder):
    keys = ("frame", "detections")
    found = map(json.loads, (folder / "frames.jsonl").read_text().splitlines())
    return [[line[key] for key in keys] for line in found]


def test_six_rows_of_a_batch_are_six_runs_of_one(tiny_onnx, tmp_path):
    ended: dict[str, int] = {}

    def on_end(name, summary):
        ended[name] = summary.frames

    with Detector.open(tiny_onnx(batch=6), threshold=0.02) as detector:
        assert detector.batch == 6
        batcher = Batcher(detector, LONG_NS)
        cameras = [
            camera(batcher, Frames(k), f"camera {k}", tmp_path / str(k), open=batcher.camera)
            for k in range(6)
        ]
        run_cameras(detector, cameras, frames=None, on_end=on_end)
    assert ended == {f"camera {k}": 3 for k in range(6)}
    with Detector.open(tiny_onnx(), threshold=0.02) as detector:
        for k in range(6):
            out = tmp_path / f"alone{k}"
            alone = camera(detector, Frames(k), out=out)
            run_cameras(detector, [alone], frames=None, on_end=lambda *_: None)
            assert lines(tmp_path / str(k)) == lines(out)
            assert [line[0] for line in lines(out)] == ["001", "002", "003"]
    assert any(line[1] for line in lines(tmp_path / "5"))


class Answers:
    """Finds nothing, or fails with what it is given for a camera's frames."""

    state, failures, batch = State.OK, 0, 1

    def __init__(self, error=None):
        self.error = error

    def detect(self, _):
        if self.error:
            raise self.error
        return NOTHING


def answers(error: Exception | None = None) -> Any:
    return Answers(error)


def test_a_camera_that_is_lost_stops_no_other():
    good, ended = answers(), list[str]()
    cameras = [
        camera(good, Frames(0, 2, is_lost=True), "camera 0"),
        camera(good, Frames(1, 9), "camera 1"),
    ]
    with pytest.raises(DataError, match=r"^camera 0: the camera gave no frame for 5 s$"):
        run_cameras(good, cameras, frames=None, on_end=lambda name, _: ended.append(name))
    assert sorted(ended) == ["camera 0", "camera 1"]
    assert cameras[1].stream.summary().frames == 9


@pytest.mark.parametrize("error", [StuckError("stuck"), ZeroDivisionError("a fault of ours")])
def test_what_no_camera_survives_ends_them_all(error):
    cameras = [
        camera(answers(error), Frames(0), "camera 0"),
        camera(answers(), Endless(1), "camera 1"),
    ]
    with pytest.raises(type(error), match=str(error)):
        run_cameras(answers(), cameras, frames=None, on_end=lambda *_: None)


def test_frames_that_the_backend_fails_on_are_counted_by_camera():
    cameras = [
        camera(answers(BackendError("lost")), Frames(0), "camera 0"),
        camera(answers(), Frames(1), "camera 1"),
    ]
    run_cameras(answers(), cameras, frames=None, on_end=lambda *_: None)
    assert [c.stream.summary().failed for c in cameras] == [3, 0]


def test_all_stop_when_told_and_after_a_number_of_frames_each():
    detector, results = answers(), list[int]()
    cameras = [camera(detector, Endless(k), f"camera {k}") for k in range(2)]
    run_cameras(detector, cameras, frames=4, on_end=lambda _, end: results.append(end.frames))
    assert results == [4, 4]
    cameras = []
    stop = partial(stop_cameras, cameras)
    cameras += [
        camera(detector, Endless(0), "camera 0", on_result=lambda _: stop()),
        camera(detector, Endless(1), "camera 1"),
    ]
    run_cameras(detector, cameras, frames=None, on_end=lambda *_: None)
    assert all(c.stream.stop.is_set() for c in cameras)
