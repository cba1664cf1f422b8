"""What goes wrong in a vehicle, and what then still holds: `docs/runtime.md` says the same."""

import threading

import numpy as np
import pytest

from edgedetr.runtime import Detector, Frame, ModelSpec
from edgedetr.runtime.detector import FAILURES_IN_A_ROW, State
from edgedetr.runtime.errors import ArtifactError, BackendError, StuckError
from edgedetr.runtime.types import MAX_SIDE_PX

NAMES = ("Car", "Pedestrian")
WHITE = Frame(np.full((20, 40, 3), 255, np.uint8), frame_id="000042")
BLACK = Frame(np.zeros((20, 40, 3), np.uint8))
LIMIT_S = 0.5


class FaultySession:
    """Does what the next of its faults says: raise it, answer NaN, or hang until released."""

    runs_on = "nothing"

    def __init__(self, *faults):
        self.spec = ModelSpec((8, 16), NAMES)
        self.images = np.zeros((1, 3, 8, 16), np.float32)
        self.faults = [None, None, *faults]
        self.release = threading.Event()
        self.hangs = False
        self.is_closed = False

    def infer(self):
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Exception):
            raise fault
        if fault == "hang":
            self.hangs = True
            self.release.wait(300)
            self.hangs = False
        logits = np.full((1, 1, 2), np.nan if fault == "nan" else -9.0, np.float32)
        logits[0, 0, 0] += 18 * self.images.mean()
        return logits, np.full((1, 1, 4), 0.5, np.float32)

    def close(self):
        self.is_closed = True


@pytest.fixture
def faulty():
    """Makes a detector whose session has faults; hanging threads are let go at the end."""
    sessions = []

    def make(*faults):
        sessions.append(FaultySession(*faults))
        return Detector(sessions[-1], time_limit_s=LIMIT_S if "hang" in faults else 30)

    yield make
    for session in sessions:
        session.release.set()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((1, MAX_SIDE_PX, 3), np.uint8),
        np.zeros((MAX_SIDE_PX, 1, 3), np.uint8),
        np.full((20, 40, 3), 255, np.uint8)[::-2, ::-1, ::-1],
    ],
)
def test_an_odd_frame_is_detected_in(tiny_onnx, image):
    with Detector.open(tiny_onnx(), threshold=0.0) as detector:
        odd = detector.detect(Frame(image))
        plain = detector.detect(Frame(np.ascontiguousarray(image)))
    np.testing.assert_array_equal(odd.scores, plain.scores)


@pytest.mark.parametrize("fault", [RuntimeError("CUDA error 719"), "nan"])
def test_a_failing_backend_loses_one_frame(faulty, fault):
    with faulty(fault) as detector:
        with pytest.raises(BackendError, match=r"frame 000042 is lost: (CUDA error|.*not finite)"):
            detector.detect(WHITE)
        assert detector.state is State.OK
        assert len(detector.detect(WHITE)) == 1
        assert len(detector.detect(BLACK)) == 0
        assert (detector.failures, detector.times.frames) == (1, 2)


def test_it_has_failed_after_some_in_a_row_until_a_frame_is_answered(faulty):
    with faulty(*[RuntimeError("no device")] * FAILURES_IN_A_ROW) as detector:
        states = []
        for _ in range(FAILURES_IN_A_ROW):
            with pytest.raises(BackendError):
                detector.detect(WHITE)
            states.append(detector.state)
        assert states == [*[State.OK] * (FAILURES_IN_A_ROW - 1), State.FAILED]
        detector.detect(WHITE)
        assert detector.state is State.OK


def test_a_submitted_frame_fails_alone(faulty):
    with faulty(RuntimeError("no device")) as detector:
        lost, kept = detector.submit(WHITE, wait=True), detector.submit(WHITE, wait=True)
        with pytest.raises(BackendError):
            lost.result(10)
        assert len(kept.result(10)) == 1


def test_a_stuck_backend_is_reported_in_time_and_refuses(faulty):
    detector = faulty("hang")
    for _ in range(3):
        with pytest.raises(StuckError, match=r"did not return within 0\.5 s"):
            detector.detect(WHITE)
    with pytest.raises(StuckError):
        detector.submit(WHITE).result(10)
    detector.close()
    detector.close()
    assert detector._model.session.hangs, "it waited for the answer"
    assert detector.state is State.FAILED
    assert not detector._model.session.is_closed


def test_a_late_answer_belongs_to_nobody(faulty):
    detector = faulty("hang")
    with pytest.raises(StuckError):
        detector.detect(WHITE)
    detector._model.session.release.set()
    with pytest.raises(StuckError):
        detector.detect(BLACK)


def test_swapping_heals_a_stuck_detector(faulty, tiny_onnx):
    detector = faulty("hang")
    with pytest.raises(StuckError):
        detector.detect(WHITE)
    detector.swap(tiny_onnx())
    assert detector.state is State.OK
    assert len(detector.detect(WHITE)) == 1
    detector.close()


def test_a_swap_between_frames_of_other_sizes(tiny_onnx):
    """No frame is lost or answered wrongly while models of two input sizes take turns."""
    small = tiny_onnx().rename(tiny_onnx().with_name("small.onnx"))
    large = tiny_onnx(spec=ModelSpec((24, 32), NAMES, resize="stretch"))
    with Detector.open(small) as detector:
        done = threading.Event()

        def swap():
            for _ in range(10):
                detector.swap(large)
                detector.swap(small)
            done.set()

        thread = threading.Thread(target=swap)
        thread.start()
        wrong, count = 0, 0
        while not done.is_set():
            futures = [detector.submit(f, wait=True) for f in (WHITE, BLACK) * 4]
            found = [len(f.result(10)) for f in futures] + [len(detector.detect(WHITE))]
            wrong += found != [1, 0] * 4 + [1]
            count += len(found)
        thread.join()
    assert wrong == 0
    assert detector.times.frames == count > 0


def test_a_bad_model_is_not_swapped_in(tiny_onnx, tmp_path):
    with Detector.open(tiny_onnx()) as detector:
        good = detector._model
        (tmp_path / "cut.onnx").write_bytes(tiny_onnx().read_bytes()[:100])
        with pytest.raises(ArtifactError, match="cut"):
            detector.swap(tmp_path / "cut.onnx")
        others = tiny_onnx(spec=ModelSpec((8, 16), ("Bus", "Tram")))
        with pytest.raises(ArtifactError, match=r"Bus, Tram, the model in use Car, Pedestrian"):
            detector.swap(others)
        nan = tiny_onnx(bias=((np.nan, -9.0), (-9.0, -9.0)))
        with pytest.raises(ArtifactError, match="not finite"):
            detector.swap(nan)
        assert detector._model is good
        assert len(detector.detect(WHITE)) == 1


def test_no_model_is_swapped_into_a_closed_detector(tiny_onnx):
    before = set(threading.enumerate())
    detector = Detector.open(tiny_onnx())
    detector.close()
    with pytest.raises(ValueError, match="the session is closed"):
        detector.swap(tiny_onnx())
    assert set(threading.enumerate()) <= before
