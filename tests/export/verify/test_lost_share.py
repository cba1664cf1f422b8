"""The bounds of the share of lost detections, by hand and by drawing."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import betainc

from edgedetr.export.verify.lost_share import ERROR_RATE, looks_at, lost_share

# Student's t at 95 %, from a printed table
T_3, T_9, T_19, T_39 = 2.3534, 1.8331, 1.7291, 1.6849


@pytest.mark.parametrize("count", [1, 2, 40, 400])
def test_where_nothing_is_lost_the_bound_is_a_power(count):
    """One detection in a frame: the chance of n kept ones is (1 - share) ** n."""
    found = lost_share([0] * count, [1] * count)
    assert (found.lost, found.compared, found.frames) == (0, count, count)
    assert found.effective == pytest.approx(count)
    assert (found.share, found.low) == (0, 0)
    assert found.high == pytest.approx(1 - 0.05 ** (1 / count))
    every = lost_share([1] * count, [1] * count)
    assert (every.share, every.high) == (1, 1)
    assert every.low == pytest.approx(0.05 ** (1 / count))


def test_the_bounds_are_clopper_and_pearson_s():
    """Five of 50 single detections: their variance is estimated, which costs one of them."""
    found = lost_share([1] * 5 + [0] * 45, [1] * 50)
    assert found.effective == pytest.approx(49)
    assert betainc(4.9 + 1, 44.1, found.high) == pytest.approx(0.95)
    assert betainc(4.9, 44.1 + 1, found.low) == pytest.approx(0.05)
    other = lost_share([0] * 5 + [1] * 45, [1] * 50)
    assert (other.low, other.high) == pytest.approx((1 - found.high, 1 - found.low))
    surer = lost_share([1] * 5 + [0] * 45, [1] * 50, 0.01)
    assert surer.error_rate == 0.01
    assert surer.low < found.low < found.share < found.high < surer.high


def test_losses_in_one_frame_tell_less_than_scattered_ones():
    """Ten frames of four detections, four of them lost.

    All in one frame: 10 / 9 * (3.6 ** 2 + 9 * 0.4 ** 2) = 16 is the variance, that of independent
    ones is 40 * 0.1 * 0.9 = 3.6. In four frames: 10 / 9 * (4 * 0.6 ** 2 + 6 * 0.4 ** 2) = 2.67 is
    less than is taken for granted, 1 + 3 * 0.1 of 3.6.
    """
    heap = lost_share([4] + 9 * [0], 10 * [4])
    spread = lost_share(4 * [1] + 6 * [0], 10 * [4])
    assert heap.share == spread.share == 0.1
    of_few = (T_39 / T_9) ** 2
    assert heap.effective == pytest.approx(40 / (16 / 3.6) * of_few, rel=1e-3)
    assert spread.effective == pytest.approx(40 / 1.3 * of_few, rel=1e-3)
    assert heap.low < spread.low < 0.1 < spread.high < heap.high


def test_few_frames_tell_less_than_their_detections():
    """Four frames that lose a fifth each: nothing of it clusters, and still 20 are not 20."""
    found = lost_share(4 * [1], 4 * [5])
    assert found.effective == pytest.approx(20 / 1.4 * (T_19 / T_3) ** 2, rel=1e-3)


def test_one_frame_is_less_than_one_detection():
    """Ten detections of one frame count as one over 1 + 9 * 0.1."""
    found = lost_share([0], [10])
    assert found.effective == pytest.approx(1 / 1.9)
    assert found.high == pytest.approx(1 - 0.05**1.9)
    assert found.verdict(0.5) == "undecided"
    assert lost_share([10], [10]).verdict(0.1) == "undecided"


def test_frames_without_detections_say_nothing():
    with_empty = lost_share([0, 1, 0, 0], [3, 4, 0, 0])
    assert with_empty == replace(lost_share([0, 1], [3, 4]), frames=4)


@pytest.mark.parametrize("compared", [[], [0, 0]])
def test_where_nothing_is_compared_nothing_is_known(compared):
    found = lost_share([0] * len(compared), compared)
    assert (found.lost, found.compared, found.frames) == (0, 0, len(compared))
    assert (found.share, found.low, found.high) == (0, 0, 1)
    assert found.verdict(0.1) == found.verdict(1.0) == "undecided"
    assert found.frames_needed(0.1) is None


def test_the_verdict_is_that_of_the_bound_on_the_wrong_side():
    found = lost_share([1] * 5 + [0] * 45, [1] * 50)  # 10 %
    assert found.verdict(found.high) == "passed"
    assert found.verdict(found.high - 1e-9) == "undecided"
    assert found.verdict(found.low) == "undecided"
    assert found.verdict(found.low - 1e-9) == "failed"
    assert found.holds(found.high)
    assert not found.holds(0.1)
    nothing = lost_share([0], [1])
    assert nothing.verdict(0.1) == "undecided"
    assert nothing.holds(0.1)  # no more frames would say anything better
    assert found.describe() == (
        f"5 of 50 detections lost (10.00%, 95% bounds {found.low:.2%} and {found.high:.2%})"
    )


def test_how_many_more_frames_would_decide():
    """A limit of 5 % needs 59 frames without a loss: 0.95 ** 59 = 0.0485."""
    found = lost_share([0] * 40, [1] * 40)
    assert found.verdict(0.05) == "undecided"
    more = found.frames_needed(0.05)
    assert more == 19
    assert lost_share([0] * 59, [1] * 59).verdict(0.05) == "passed"
    assert lost_share([0] * 58, [1] * 58).verdict(0.05) == "undecided"


def test_more_of_the_same_frames_decide_where_it_is_said():
    lost, compared = [2, 0, 0, 0, 1] * 4, [5] * 20  # 12 %
    found = lost_share(lost, compared)
    more = found.frames_needed(0.2)
    assert found.verdict(0.2) == "undecided"
    assert more is not None
    times = 1 + round(more / 20 + 0.5)
    assert lost_share(times * lost, times * compared).verdict(0.2) == "passed"
    assert found.frames_needed(0.12) is None  # the share lies on the limit


@pytest.mark.parametrize(
    ("frames", "looks"),
    [
        (1, {1: 0.05}),
        (40, {40: 0.05}),
        (41, {40: 0.025, 41: 0.025}),
        (80, {40: 0.025, 80: 0.025}),
        (200, {40: 0.025 / 3, 80: 0.025 / 3, 160: 0.025 / 3, 200: 0.025}),
    ],
)
def test_the_share_is_tested_after_every_doubling(frames, looks):
    assert looks_at(frames) == looks
    assert sum(looks.values()) == pytest.approx(ERROR_RATE)


def drawn(rng, share, correlation, frames):
    """Draw detections of frames, of which those of a frame are lost together."""
    compared = rng.integers(0, 9, frames)
    if correlation:
        spare = 1 / correlation - 1
        chances = rng.beta(share * spare, (1 - share) * spare, frames)
    else:
        chances = np.full(frames, share)
    return rng.binomial(compared, chances).tolist(), compared.tolist()


@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_each_bound_errs_in_one_of_twenty_draws(share, correlation):
    rng = np.random.default_rng(0)
    draws = [lost_share(*drawn(rng, share, correlation, 60)) for _ in range(1000)]
    # the standard error of 5 % over 1000 draws is 0.7 %
    assert np.mean([d.high < share for d in draws]) <= ERROR_RATE + 0.015
    assert np.mean([d.low > share for d in draws]) <= ERROR_RATE + 0.015


@pytest.mark.parametrize("wrong", ["passed", "failed"])
def test_looking_several_times_does_not_err_more_often(wrong):
    """A share on its limit may be called neither; whoever looks four times has four chances."""
    rng, limit, said = np.random.default_rng(1), 0.1, []
    looks = looks_at(320)
    for _ in range(500):
        lost, compared = drawn(rng, limit, 0.2, 320)
        shares = (lost_share(lost[:n], compared[:n], rate) for n, rate in looks.items())
        said.append(any(share.verdict(limit) == wrong for share in shares))
    assert np.mean(said) <= ERROR_RATE + 0.02
