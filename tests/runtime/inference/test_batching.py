import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edgedetr.runtime.errors import BackendError
from edgedetr.runtime.inference.batching import Batcher
from edgedetr.runtime.types import Detections, Frame

LONG_NS, SHORT_NS = 60_000_000_000, 20_000_000


def frame(number):
    return Frame(np.zeros((2, 2, 3), np.uint8), 0, str(number))


class Numbers:
    """A detector that finds a frame's name as the only score, and keeps what it got."""

    def __init__(self, batch):
        self.batch = batch
        self.sizes: list[int] = []
        self.error: Exception | None = None
        self.entered, self.may_go_on = threading.Event(), threading.Event()
        self.may_go_on.set()

    def detect_batch(self, frames):
        self.sizes.append(len(frames))
        self.entered.set()
        self.may_go_on.wait()
        if self.error:
            raise self.error
        return [self.found(frame) for frame in frames]

    @staticmethod
    def found(frame):
        score = np.array([float(frame.frame_id)], np.float32)
        return Detections(np.zeros((1, 4), np.float32), score, np.zeros(1, np.int64))


def scores(batcher, numbers):
    """Detect in frames of as many cameras at once; return what each got."""
    start = threading.Barrier(len(numbers))

    def detect(number):
        with batcher.camera():
            start.wait()
            return batcher.detect(frame(number)).scores.tolist()

    with ThreadPoolExecutor(len(numbers)) as pool:
        return list(pool.map(detect, numbers))


def test_a_batch_is_of_all_cameras_and_each_gets_its_own():
    detector = Numbers(batch=6)
    assert scores(Batcher(detector, LONG_NS), range(6)) == [[k] for k in range(6)]
    assert detector.sizes == [6]


def test_more_cameras_than_the_batch_holds_take_turns():
    detector = Numbers(batch=2)
    assert scores(Batcher(detector, LONG_NS), range(4)) == [[k] for k in range(4)]
    assert detector.sizes == [2, 2]


def test_a_model_of_one_frame_waits_for_none():
    detector = Numbers(batch=1)
    batcher = Batcher(detector, LONG_NS)
    with batcher.camera(), batcher.camera():
        assert batcher.detect(frame(7)).scores.tolist() == [7]


def test_a_camera_without_a_frame_holds_up_the_others_for_the_time_to_gather_and_no_longer():
    detector = Numbers(batch=2)
    batcher = Batcher(detector, SHORT_NS)
    with batcher.camera(), batcher.camera():
        start_ns = time.monotonic_ns()
        batcher.detect(frame(1))
        assert time.monotonic_ns() - start_ns >= SHORT_NS
    assert detector.sizes == [1]


def test_a_camera_that_ends_is_not_waited_for():
    detector = Numbers(batch=2)
    batcher = Batcher(detector, LONG_NS)
    with ThreadPoolExecutor(1) as pool, batcher.camera():
        with batcher.camera():
            found = pool.submit(batcher.detect, frame(3))
            assert not detector.entered.wait(0.02)
        assert found.result().scores.tolist() == [3]


def test_frames_that_come_while_a_batch_runs_are_the_next_one():
    detector = Numbers(batch=2)
    detector.may_go_on.clear()
    batcher = Batcher(detector, SHORT_NS)
    with ThreadPoolExecutor(3) as pool, batcher.camera():
        first = pool.submit(batcher.detect, frame(0))
        assert detector.entered.wait(10)
        others = [pool.submit(batcher.detect, frame(k)) for k in (1, 2)]
        while len(batcher._waiting) < 2:
            time.sleep(0.001)
        detector.may_go_on.set()
        assert [f.result().scores.tolist() for f in (first, *others)] == [[0], [1], [2]]
    assert detector.sizes == [1, 2]


def test_a_batch_that_fails_is_lost_for_all_its_cameras_and_the_next_one_is_not():
    detector = Numbers(batch=2)
    detector.error = BackendError("no")
    batcher = Batcher(detector, LONG_NS)
    with ThreadPoolExecutor(2) as pool, batcher.camera(), batcher.camera():
        for lost in [pool.submit(batcher.detect, frame(k)) for k in (0, 1)]:
            with pytest.raises(BackendError, match="no"):
                lost.result()
        detector.error = None
        both = [pool.submit(batcher.detect, frame(k)) for k in (2, 3)]
        assert [f.result().scores.tolist() for f in both] == [[2], [3]]
