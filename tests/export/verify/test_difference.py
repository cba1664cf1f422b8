import math

import numpy as np
import pytest

from edgedetr.export.verify.difference import TINY, Comparison


def difference(*pairs):
    comparison = Comparison()
    for reference, other in pairs:
        comparison.add(np.array(reference, np.float32), np.array(other, np.float32))
    return comparison.difference()


def test_the_relative_error_is_over_all_frames():
    """The noise is 3 ** 2 + 4 ** 2 = 5 ** 2, the signal 30 ** 2 + 40 ** 2 = 50 ** 2."""
    found = difference(([30.0, 0.0], [33.0, 0.0]), ([0.0, 40.0], [0.0, 36.0]))
    assert found.relative == pytest.approx(0.1)
    assert found.sqnr_db == pytest.approx(20)
    assert found.cosine == pytest.approx((30 * 33 + 40 * 36) / (50 * math.hypot(33, 36)))


def test_equal_tensors_have_no_noise():
    found = difference(([1.0, -2.0], [1.0, -2.0]))
    assert (found.relative, found.cosine, found.sqnr_db) == (0, pytest.approx(1), None)


def test_numbers_that_are_not_finite_or_mask_are_left_out():
    found = difference(([3.0, np.nan, -1e38, 1.0], [3.0, 1.0, -5.0, np.inf]))
    assert found.relative == 0


def test_tensors_of_another_shape_have_nothing_in_common():
    found = difference(([1.0, 2.0], [1.0]))
    assert (found.relative, found.cosine) == (math.inf, 0)


def test_noise_on_a_tensor_of_zeros_is_relative_to_tiny_numbers():
    assert difference(([0.0, 0.0], [TINY, TINY])).relative == pytest.approx(1)
