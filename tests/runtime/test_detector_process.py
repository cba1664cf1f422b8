"""A detector and its process: forks, ends, callbacks, and threads that all come at once."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from contextlib import suppress
from itertools import count

import numpy as np
import pytest

from edgedetr.runtime import Detector, Frame, ModelSpec
from edgedetr.runtime.errors import StuckError, UsageError
from edgedetr.runtime.inference import opening
from edgedetr.runtime.inference.watchdog import is_any_left_alone

WHITE = Frame(np.full((20, 40, 3), 255, np.uint8))
SECONDS = 10
STRESS_S = float(os.environ.get("EDGEDETR_STRESS_S", "60" if os.environ.get("CI") else "5"))

FORK = """
import os, sys
import numpy as np
from edgedetr.runtime import Detector, Frame
frame = Frame(np.full((20, 40, 3), 255, np.uint8))
detector = Detector.open(sys.argv[1])
detector.submit(frame, wait=True).result(10)
calls = (lambda: detector.detect(frame), lambda: detector.detect_batch([frame]),
         lambda: detector.submit(frame), lambda: detector.submit(frame, wait=True),
         lambda: detector.swap(sys.argv[1]))
child = os.fork()
if not child:
    for call in calls:
        try:
            call()
        except Exception as error:
            print(type(error).__name__, error)
    detector.close()
    sys.stdout.flush()
    os._exit(0)
print(os.waitpid(child, 0)[1], len(detector.detect(frame)), flush=True)
"""

EXIT = """
import sys
import numpy as np
from edgedetr.runtime import Detector, Frame
detector = Detector.open(sys.argv[1], sys.argv[2])
futures = [detector.submit(Frame(np.zeros((375, 1242, 3), np.uint8))) for _ in range(3)]
sys.exit(3)
"""


def run(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_after_a_fork_it_refuses_at_once(tiny_onnx):
    done = run(FORK, tiny_onnx())
    *refused, parent = done.stdout.splitlines()
    told = "UsageError the detector was opened in another process; open it after the fork"
    assert (refused, parent) == ([told] * 5, "0 1"), done.stderr


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_program_may_end_with_frames_under_way(tiny_onnx, backend):
    pytest.importorskip(backend)
    done = run(EXIT, tiny_onnx(), backend)
    assert (done.returncode, done.stderr) == (3, "")


@pytest.fixture
def detector(tiny_onnx):
    with Detector.open(tiny_onnx()) as found:
        yield found


def test_a_callback_cannot_wait_for_room(detector):
    told: list[object] = []

    def again(_):
        with pytest.raises(UsageError, match="cannot wait for room"):
            detector.submit(WHITE, wait=True)
        told.append(detector.submit(WHITE))

    for _ in range(8):
        detector.submit(WHITE, wait=True).add_done_callback(again)
    while not told:
        time.sleep(0.001)
    assert len(detector.detect(WHITE)) == 1


def test_a_callback_ends_no_thread(detector, caplog):
    for error in (SystemExit("bye"), KeyboardInterrupt(), ValueError("no")):

        def fail(_, error=error):
            raise error

        detector.submit(WHITE, wait=True).add_done_callback(fail)
        assert len(detector.submit(WHITE, wait=True).result(SECONDS)) == 1
    assert "a callback of a submitted frame failed" in caplog.text


def test_a_callback_may_close_it(detector):
    closed = threading.Event()
    future = detector.submit(WHITE, wait=True)

    def close(_):
        detector.close()
        closed.set()

    future.add_done_callback(close)
    assert closed.wait(SECONDS)
    for thread in detector._pipeline._threads:
        thread.join(SECONDS)
    assert detector._model.watchdog.is_closed


class SlowSession:
    """Answers each frame once it may."""

    runs_on = "nothing"

    def __init__(self):
        self.spec = ModelSpec((8, 16), ("Car",))
        self.images = np.zeros((1, 3, 8, 16), np.float32)
        self.may = threading.Semaphore(2)

    def infer(self):
        assert self.may.acquire(timeout=SECONDS)
        return np.full((1, 1, 1), 9, np.float32), np.full((1, 1, 4), 0.5, np.float32)

    def close(self):
        pass


def test_a_second_close_waits_for_the_frames_at_work_too():
    session = SlowSession()
    detector = Detector(session)
    futures = [detector.submit(WHITE, wait=True) for _ in range(2)]
    while not all(f.running() for f in futures):
        time.sleep(0.001)
    closing = [threading.Thread(target=detector.close) for _ in range(2)]
    for thread in closing:
        thread.start()
    closing[1].join(0.05)
    assert closing[1].is_alive()
    session.may.release(2)
    for thread in closing:
        thread.join(SECONDS)
    assert [len(f.result(SECONDS)) for f in futures] == [1, 1]


def test_a_model_that_never_opens_is_given_up(tiny_onnx, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(opening, "OPENING_LIMIT_S", 0.05)
    with Detector.open(tiny_onnx()) as detector:
        monkeypatch.setattr(opening, "open_model", lambda *_, **__: release.wait(SECONDS))
        for call in (Detector.open, detector.swap):
            with pytest.raises(StuckError, match=r"tiny\.onnx did not open within 0\.05 s"):
                call(str(tiny_onnx()))
        assert len(detector.detect(WHITE)) == 1
    assert is_any_left_alone()
    release.set()


class Stress:
    """Threads that detect, submit, swap, fail, fork and close, all at once and until a time."""

    def __init__(self, models, until):
        self.models, self.until = models, until
        self.problems, self.done = [], count()
        rng = np.random.default_rng(0)
        sizes = ((96, 320), (64, 64), (1, 1))
        self.frames = [Frame(rng.integers(0, 256, (*s, 3), np.uint8)) for s in sizes]
        self.detector = Detector.open(models[0])

    def frame(self):
        return random.choice(self.frames)  # noqa: S311 - no secret

    def detect(self, detector):
        detector.detect(self.frame())
        detector.detect_batch([self.frame(), self.frame()])

    def submit(self, detector):
        futures = [detector.submit(self.frame(), wait=n % 2 == 0) for n in range(6)]
        futures[0].add_done_callback(lambda _: sys.exit("from a callback"))
        futures[1].add_done_callback(lambda _: detector.submit(self.frame()))
        futures[2].add_done_callback(lambda _: detector.submit(self.frame(), wait=True))
        for future in futures:
            with suppress(CancelledError):
                future.result(SECONDS)

    def swap(self, detector):
        detector.swap(random.choice(self.models))  # noqa: S311
        time.sleep(0.02)

    def fork(self, detector):
        time.sleep(0.1)
        child = os.fork()
        if not child:
            refused = False
            signal.alarm(SECONDS)
            try:
                detector.detect(self.frames[0])
            except (UsageError, ValueError):  # opened elsewhere, or closed meanwhile
                refused = True
            finally:
                os._exit(not refused)
        status = os.waitpid(child, 0)[1]
        if status:
            self.problems.append(f"a forked process ended with {status}")

    def reopen(self, detector):
        time.sleep(random.uniform(0.1, 0.6))  # noqa: S311
        both = [threading.Thread(target=detector.close) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join(SECONDS)
            assert not thread.is_alive()
        self.detector = Detector.open(self.models[0])

    def keep(self, work):
        while time.monotonic() < self.until:
            self.note(work)

    def note(self, work):
        try:
            work(self.detector)
            next(self.done)
        except ValueError as error:
            if "closed" not in str(error):
                self.problems.append(repr(error))
            time.sleep(0.01)
        except SystemExit:
            time.sleep(0)  # of a callback that came after the answer
        except BaseException as error:
            self.problems.append(repr(error))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_everything_at_once(tiny_onnx, caplog):
    """`EDGEDETR_STRESS_S` says for how long, in seconds; where ``CI`` is set, it is a minute."""
    caplog.set_level("CRITICAL")
    small = tiny_onnx().rename(tiny_onnx().with_name("small.onnx"))
    large = tiny_onnx(spec=ModelSpec((24, 32), ("Car", "Pedestrian"), resize="stretch"))
    before = set(threading.enumerate())
    stress = Stress((small, large), time.monotonic() + STRESS_S)
    work = [stress.detect] * 2 + [stress.submit] * 2 + [stress.swap] * 2
    work += [stress.reopen, stress.fork]
    threads = [threading.Thread(target=stress.keep, args=(each,)) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(STRESS_S + 3 * SECONDS)
    assert not any(thread.is_alive() for thread in threads)
    assert len(stress.detector.submit(stress.frames[0], wait=True).result(SECONDS)) <= 2
    stress.detector.close()
    assert stress.problems == []
    assert next(stress.done) > 5
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(SECONDS)
    assert not any(thread.is_alive() for thread in left)
