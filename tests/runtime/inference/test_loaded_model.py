"""A model is warmed up when it is loaded, and frames go through the buffer that is free."""

import threading

import numpy as np
import pytest

from edgedetr.runtime.errors import BackendError
from edgedetr.runtime.inference.loaded_model import LoadedModel
from edgedetr.runtime.preprocess import Placement
from edgedetr.runtime.spec import ModelSpec

SPEC = ModelSpec((8, 16), ("Car",), resize="stretch")
WHITE, BLACK = (np.full((8, 16, 3), grey, np.uint8) for grey in (255, 0))
PLACE = Placement((8, 16), (8, 16), (8, 16))


class GreySession:
    """Answers with the mean of its input; notes each run, and whether it is closed."""

    spec, runs_on = SPEC, "a test"

    def __init__(self, fails_at=0):
        self.images = np.empty((1, 3, 8, 16), np.float32)
        self.fails_at, self.seen, self.closed = fails_at, [], 0

    def infer(self):
        self.seen.append(round(float(self.images.mean()), 2))
        if len(self.seen) == self.fails_at:
            raise BackendError("odd")
        return np.full((1, 1, 1), -9, np.float32), np.full((1, 1, 4), 0.5, np.float32)

    def close(self):
        self.closed += 1


@pytest.fixture
def load():
    """Loads sessions; all models are closed at the end."""
    models = []

    def load_one(session):
        models.append(LoadedModel(session, 0.5, 20))
        return models[-1]

    yield load_one
    for model in models:
        model.close()


def test_two_black_frames_warm_a_session_up(load):
    session = GreySession()
    assert load(session).spec == SPEC
    assert session.seen == [0, 0]


def test_a_session_that_fails_to_warm_up_is_closed(load):
    session = GreySession(fails_at=2)
    with pytest.raises(BackendError, match="odd"):
        load(session)
    assert session.closed == 1


def test_a_prepared_frame_reaches_the_session_and_frees_the_spare(load):
    session = GreySession()
    model = load(session)
    for image, mean in ((WHITE, 1), (BLACK, 0), (WHITE, 1)):
        prepared = model.prepare(image)
        place = model.feed_prepared(prepared, image)
        assert (session.images.mean(), place.source_hw) == (mean, (8, 16))


def test_preparing_leaves_what_is_being_inferred_alone(load):
    session = GreySession()
    model = load(session)
    model.feed(WHITE)
    prepared = model.prepare(BLACK)
    assert session.images.mean() == 1
    model.feed_prepared(prepared, BLACK)
    assert session.images.mean() == 0


def test_one_spare_makes_the_next_frame_wait(load):
    model = load(GreySession())
    first, found = model.prepare(WHITE), []
    thread = threading.Thread(target=lambda: found.append(model.prepare(BLACK)))
    thread.start()
    thread.join(0.05)
    assert not found
    model.feed_prepared(first, WHITE)
    thread.join(20)
    assert len(found) == 1


def test_what_another_model_prepared_is_preprocessed_again(load):
    """The old model's spare is free again, so that its last frames find one."""
    old, session = load(GreySession()), GreySession()
    new = load(session)
    prepared = old.prepare(WHITE)
    new.feed_prepared(prepared, WHITE)
    assert session.images.mean() == 1
    assert old.prepare(BLACK).buffer is prepared.buffer


def test_a_device_that_preprocesses_needs_no_spare(load):
    fed: list[float] = []

    class FeedingSession(GreySession):
        def feed(self, image):
            fed.append(image.mean())
            return PLACE

    session = FeedingSession()
    model = load(session)
    prepared = model.prepare(WHITE)
    assert (prepared.buffer, prepared.place) == (None, None)
    assert model.feed_prepared(prepared, WHITE) is PLACE
    assert fed[-1] == 255


def test_a_second_close_does_nothing(load):
    session = GreySession()
    model = load(session)
    model.close()
    model.close()
    assert session.closed == 1


class FedSession:
    """Preprocesses on the device; reading its input buffer takes back what it was fed."""

    spec, runs_on = SPEC, "a test"

    def __init__(self):
        self.host, self.reads = GreySession(), 0
        self.infer, self.close = self.host.infer, self.host.close

    @property
    def images(self):
        self.reads += 1
        return self.host.images

    def feed(self, _):
        self.reads = 0
        return PLACE


def test_to_ask_for_the_batch_takes_back_no_frame_that_was_fed(load):
    session = FedSession()
    model = load(session)
    model.feed(WHITE)
    assert (model.batch, session.reads) == (1, 0)
