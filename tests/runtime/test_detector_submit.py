"""Frames that are submitted: two stages, a bounded queue, and an orderly end."""

import threading
import tracemalloc
from concurrent.futures import CancelledError, wait

import numpy as np
import pytest

from edgedetr.runtime import Detector, Frame, ModelSpec
from edgedetr.runtime.inference.pipeline import WAITING_FRAMES
from edgedetr.runtime.preprocess import Preprocessor

SPEC = ModelSpec((8, 16), ("Car", "Pedestrian"))
WHITE = Frame(np.full((20, 40, 3), 255, np.uint8))
BLACK = Frame(np.zeros((20, 40, 3), np.uint8))
SECONDS = 10


class GatedSession:
    """Answers with the mean of its input, one frame each time the gate is opened."""

    runs_on = "nothing"

    def __init__(self, batch=1):
        self.spec = SPEC
        self.images = np.zeros((batch, 3, *SPEC.input_hw), np.float32)
        self.gate = threading.Semaphore(2)  # the warm-up
        self.started = threading.Semaphore(0)
        self.runs = 0
        self.threads = set()

    def infer(self):
        self.started.release()
        assert self.gate.acquire(timeout=SECONDS)
        self.runs += 1
        self.threads.add(threading.current_thread())
        logits = np.zeros((len(self.images), 1, 2), np.float32)
        logits[:, 0, 0] = self.images.mean(axis=(1, 2, 3))
        return logits, np.full((len(self.images), 1, 4), 0.5, np.float32)

    def close(self):
        self.threads.add(threading.current_thread())


@pytest.fixture
def gated():
    """A detector behind a gate, and its session; the frame at work waits for the gate."""
    session = GatedSession()
    with Detector(session, threshold=0.0) as detector:
        for _ in range(2):
            session.started.acquire()
        yield detector, session
        session.gate.release(100)


def frame(level):
    return Frame(np.full((8, 16, 3), level, np.uint8))


def score(level):
    return 1 / (1 + np.exp(-level / 255))


def answer(future):
    return future.result(SECONDS).scores[0]


def test_each_future_holds_what_detect_finds(tiny_onnx):
    with Detector.open(tiny_onnx(), threshold=0.0) as detector:
        frames = [WHITE, BLACK] * 20
        futures = [detector.submit(f, wait=True) for f in frames]
        for shown, future in zip(frames, futures, strict=True):
            found, wanted = future.result(SECONDS), detector.detect(shown)
            np.testing.assert_array_equal(found.scores, wanted.scores)
            np.testing.assert_array_equal(found.boxes, wanted.boxes)
        assert detector.times.frames == 80
        assert detector.times.preprocess_ns > 0


def test_the_next_frame_is_prepared_while_the_network_runs(gated):
    detector, session = gated
    first = detector.submit(frame(10))
    assert session.started.acquire(timeout=SECONDS)
    before = session.images.copy()
    second = detector.submit(frame(20))
    prepared = detector._pipeline._prepared
    while not prepared.qsize():
        assert not first.done()
    np.testing.assert_array_equal(session.images, before)
    session.gate.release(2)
    assert answer(first) == pytest.approx(score(10))
    assert answer(second) == pytest.approx(score(20))


def fill(detector, session):
    """Put one frame in each stage and fill the queue; return the futures, oldest first."""
    futures = [detector.submit(frame(1))]
    assert session.started.acquire(timeout=SECONDS)
    futures.append(detector.submit(frame(2)))
    while not detector._pipeline._prepared.qsize():
        pass
    third = detector.submit(frame(3))  # its stage is free, but the spare buffer is not
    while not third.running():
        pass
    return [*futures, third, *(detector.submit(frame(4 + i)) for i in range(WAITING_FRAMES))]


def test_the_oldest_waiting_frame_gives_way(gated):
    detector, session = gated
    futures = fill(detector, session)
    newest = detector.submit(frame(100))
    assert [f.cancelled() for f in futures] == [False, False, False, True, False]
    with pytest.raises(CancelledError):
        futures[3].result(SECONDS)
    session.gate.release(5)
    levels = [1, 2, 3, 5, 100]
    done = [f for f in (*futures, newest) if not f.cancelled()]
    assert [answer(f) for f in done] == pytest.approx([score(v) for v in levels])


def test_who_waits_for_room_loses_nothing(gated):
    detector, session = gated
    futures = fill(detector, session)
    more = []
    thread = threading.Thread(target=lambda: more.append(detector.submit(frame(100), wait=True)))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    session.gate.release(len(futures) + 1)
    thread.join(SECONDS)
    assert answer(more[0]) == pytest.approx(score(100))
    assert not any(f.cancelled() for f in futures)


def test_a_cancelled_frame_is_not_detected(gated):
    detector, session = gated
    futures = fill(detector, session)
    assert futures[-1].cancel()
    session.gate.release(4)
    wait(futures, SECONDS)
    assert session.runs == 2 + 4


def test_close_finishes_what_runs_and_cancels_what_waits(gated):
    detector, session = gated
    futures = fill(detector, session)
    session.gate.release(3)
    detector.close()
    detector.close()
    assert [f.cancelled() for f in futures] == [False, False, False, True, True]
    assert answer(futures[2]) == pytest.approx(score(3))
    with pytest.raises(ValueError, match="the session is closed"):
        detector.submit(WHITE)
    assert not any(t.is_alive() for t in session.threads)
    assert len(session.threads) == 1  # it also frees what it used


def test_close_joins_every_thread(tiny_onnx):
    before = set(threading.enumerate())
    with Detector.open(tiny_onnx()) as detector:
        detector.submit(WHITE).result(SECONDS)
        assert len(set(threading.enumerate()) - before) == 3
    assert set(threading.enumerate()) <= before


def test_a_detector_that_nobody_closed_leaves_no_thread(tiny_onnx):
    before = set(threading.enumerate())
    detector = Detector.open(tiny_onnx())
    (thread,) = set(threading.enumerate()) - before
    del detector
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_a_callback_may_close_the_detector(tiny_onnx):
    detector = Detector.open(tiny_onnx())
    closed = threading.Event()
    future = detector.submit(WHITE)

    def close(_):
        detector.close()
        closed.set()

    future.add_done_callback(close)
    assert closed.wait(SECONDS)
    with pytest.raises(ValueError, match="the session is closed"):
        detector.detect(WHITE)


def test_a_batch_is_answered_in_order_and_at_once():
    session = GatedSession(batch=4)
    session.gate.release(3)
    with Detector(session, threshold=0.0) as detector:
        found = detector.detect_batch([frame(v) for v in range(10, 110, 10)])
    levels = [score(v) for v in range(10, 110, 10)]
    assert [f.scores[0] for f in found] == pytest.approx(levels)
    assert session.runs == 2 + 3
    assert detector.times.frames == 10


def test_an_empty_batch_is_nothing(tiny_onnx):
    with Detector.open(tiny_onnx()) as detector:
        assert detector.detect_batch([]) == []


@pytest.mark.parametrize("submitted", [False, True])
def test_a_frame_allocates_less_than_three_small_arrays(tiny_onnx, submitted):
    """The input takes 5.7 MB and the image 1.4 MB: neither is allocated again."""
    spec = ModelSpec((384, 1248), ("Car", "Pedestrian"))
    picture = Frame(np.full((375, 1242, 3), 200, np.uint8))
    queries = [[-4.0, -9.0]] * 300
    path = tiny_onnx(spec=spec, bias=queries, boxes=[(0.5, 0.5, 0.5, 0.5)] * 300)
    with Detector.open(path) as detector:

        def step():
            return (
                detector.submit(picture).result(SECONDS) if submitted else detector.detect(picture)
            )

        step()
        tracemalloc.start()
        try:
            step()
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak_bytes < 40_000


class FedSession(GatedSession):
    """Preprocesses on a device of its own, on the thread that also runs the network."""

    def __init__(self):
        super().__init__()
        self.gate.release(100)
        self.fed = np.zeros((1, 3, *SPEC.input_hw), np.float32)

    def feed(self, image):
        self.threads.add(threading.current_thread())
        return Preprocessor(SPEC)(image, self.fed[0])

    def infer(self):  # type: ignore[explicit-override]
        self.images[...], self.fed[...] = self.fed, np.nan
        return super().infer()


def test_a_device_that_preprocesses_is_fed_images():
    session = FedSession()
    with Detector(session, threshold=0.0) as detector:
        assert detector.detect(frame(10)).scores[0] == pytest.approx(score(10))
        futures = [detector.submit(frame(v), wait=True) for v in (20, 30, 40)]
        found = [answer(f) for f in futures]
        assert found == pytest.approx([score(v) for v in (20, 30, 40)])
    assert len(session.threads) == 1
