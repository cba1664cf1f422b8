"""Frames that the session preprocesses on the device, with the kernels run by the CPU."""

import numpy as np
import pytest

from edgedetr.runtime.errors import BackendError
from edgedetr.runtime.preprocess import Preprocessor

WHITE, BLACK = 4.0, -4.0  # the first logit


@pytest.fixture
def feeding(opened):
    """A session that preprocesses on the device."""
    session = opened()
    assert session.feed is not None
    return session


@pytest.mark.parametrize("hw", [(8, 16), (20, 40), (5, 60), (61, 33)])
def test_a_fed_frame_is_the_one_that_the_cpu_would_have_made(feeding, hw):
    image = np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8)
    wanted_place = Preprocessor(feeding.spec)(image, feeding.images[0])
    wanted = feeding.infer()[0].copy()
    feeding.images[...] = -1
    assert feeding.feed(image) == wanted_place
    np.testing.assert_array_equal(feeding.infer()[0], wanted)
    np.testing.assert_allclose(feeding.infer()[0][0, 0, 0], -12)  # images again: it was used up


def test_frames_of_changing_size_are_fed(feeding, gpu):
    for size in (10, 30, 10, 100):
        image = np.full((size, 2 * size, 3), 255, np.uint8)
        feeding.feed(image)
        assert feeding.infer()[0][0, 0, 0] == pytest.approx(WHITE)
    feeding.close()
    gpu.check_clean()


def test_a_frame_that_is_a_view_is_fed(feeding):
    image = np.zeros((20, 80, 3), np.uint8)
    image[:, ::2] = 255
    feeding.feed(image[:, ::2])
    assert feeding.infer()[0][0, 0, 0] == pytest.approx(WHITE)


def test_writing_images_takes_back_what_was_fed(feeding):
    feeding.feed(np.full((8, 16, 3), 255, np.uint8))
    feeding.images[...] = 0
    assert feeding.infer()[0][0, 0, 0] == BLACK


def test_the_last_of_two_fed_frames_counts(feeding):
    feeding.feed(np.zeros((8, 16, 3), np.uint8))
    feeding.feed(np.full((8, 16, 3), 255, np.uint8))
    assert feeding.infer()[0][0, 0, 0] == pytest.approx(WHITE)


def test_a_frame_too_large_for_the_device_is_an_error_and_the_next_is_right(feeding, gpu):
    feeding.feed(np.zeros((8, 16, 3), np.uint8))
    gpu.free_bytes = 5000
    with pytest.raises(BackendError, match="the GPU failed: cuMemAlloc failed: out of memory"):
        feeding.feed(np.zeros((80, 160, 3), np.uint8))
    feeding.feed(np.full((8, 16, 3), 255, np.uint8))
    assert feeding.infer()[0][0, 0, 0] == pytest.approx(WHITE)


def test_a_closed_session_takes_no_frames(feeding):
    feed = feeding.feed
    feeding.close()
    assert feeding.feed is None
    with pytest.raises(ValueError, match="the session is closed"):
        feed(np.zeros((8, 16, 3), np.uint8))
