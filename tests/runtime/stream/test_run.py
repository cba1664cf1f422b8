"""How a run ends: its books are closed whatever happens, and the status says what did."""

import json
from typing import Any

import numpy as np
import pytest

from edgedetr.runtime import Detections, Frame
from edgedetr.runtime.detector import State
from edgedetr.runtime.errors import BackendError, DataError, StuckError
from edgedetr.runtime.sources.capture import Capture
from edgedetr.runtime.stream.result_files import ResultFiles
from edgedetr.runtime.stream.run import run
from edgedetr.runtime.stream.stream import Stream

NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


class Source:
    """Gives so many frames, then ends or is lost."""

    def __init__(self, frames, *, is_lost=False):
        self.left, self.is_lost = frames, is_lost

    def next(self, _):
        if self.left:
            self.left -= 1
            return Capture(Frame(np.zeros((4, 4, 3), np.uint8), 0, f"{self.left:03d}"), "", 0)
        if self.is_lost:
            raise DataError("the camera gave no frame for 5 s")
        return None

    def close(self):
        pass


class FaultyDetector:
    """Raises the given errors in turn, None for a good frame; good ones follow."""

    def __init__(self, *errors, state=State.OK):
        self.errors, self.state, self.failures = list(errors), state, len(errors)

    def detect(self, _):
        error = self.errors.pop(0) if self.errors else None
        if error:
            raise error
        return NOTHING


class Player:
    """Runs a stream and keeps the summary that it was ended with, and what is on disk."""

    def __init__(self, out):
        self.out = out

    def __call__(self, detector, source, **options):
        seen: list[Any] = []
        stream = Stream(detector, source, deadline_ns=10**18)
        files = ResultFiles(self.out, None, rate_hz=30, class_names=("Car",))
        try:
            run(detector, stream, files, out=self.out, on_end=seen.append, **options)
        finally:
            self.summary = seen[0]
            self.written = json.loads((self.out / "summary.json").read_text())
            self.lines = len((self.out / "frames.jsonl").read_text().splitlines())


@pytest.fixture
def play(tmp_path):
    return Player(tmp_path)


def test_an_ordinary_end(play):
    play(FaultyDetector(), Source(5))
    assert (play.summary.frames, play.written["frames"], play.written["written"]) == (5, 5, 5)
    assert (play.lines, play.written["problem"]) == (5, "")


def test_enough_is_enough(play):
    play(FaultyDetector(), Source(5), frames=3)
    assert (play.summary.frames, play.lines) == (3, 3)


def test_a_stuck_backend_is_the_end_and_in_the_books(play):
    with pytest.raises(StuckError, match="no answer"):
        play(FaultyDetector(None, None, StuckError("no answer")), Source(5))
    assert (play.lines, play.written["frames"], play.written["problem"]) == (2, 2, "no answer")


def test_a_lost_camera_is_the_end_and_in_the_books(play):
    with pytest.raises(DataError, match="no frame for 5 s"):
        play(FaultyDetector(), Source(2, is_lost=True))
    assert (play.lines, play.written["problem"]) == (2, "the camera gave no frame for 5 s")


def test_failed_frames_alone_are_no_failure(play):
    play(FaultyDetector(BackendError("lost"), BackendError("lost")), Source(5))
    assert (play.summary.frames, play.summary.failed, play.lines) == (3, 2, 3)


def test_a_backend_that_failed_to_the_last_is_one(play):
    errors = [BackendError("lost")] * 5
    with pytest.raises(BackendError, match="the backend failed on 5 frames, the last ones among"):
        play(FaultyDetector(*errors, state=State.FAILED), Source(5))
    assert (play.summary.frames, play.summary.failed) == (0, 5)


def test_a_summary_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "summary.json").mkdir()
    detector: Any = FaultyDetector()
    stream = Stream(detector, Source(2), deadline_ns=10**18)
    files = ResultFiles(tmp_path, None, rate_hz=30, class_names=("Car",))
    with pytest.raises(DataError, match=r"summary\.json: cannot be written"):
        run(detector, stream, files, out=tmp_path)
