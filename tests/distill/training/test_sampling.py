from collections import Counter
from itertools import chain
from typing import Any

import numpy as np
import pytest

from edgedetr.distill.config import DataConfig
from edgedetr.distill.data import Truth
from edgedetr.distill.training.sampling import (
    EpochOrder,
    Item,
    Share,
    near_order,
    repeat_factors,
    training_sizes,
)


def truth(*labels):
    n = len(labels)
    return Truth(
        np.zeros((n, 4), np.float32),
        np.array(labels, np.int64),
        np.zeros(n, np.float32),
        np.zeros(n, np.int64),
        np.zeros((0, 4), np.float32),
    )


def epoch(order, number=0):
    order.epoch = number
    return list(order)


def test_images_of_rare_classes_get_the_factor_of_their_rarest():
    """Of 10 images 9 hold class 0 and 1 holds class 1: at 0.4 the latter comes sqrt(4) times."""
    truths = [truth(0)] * 8 + [truth(0, 1, 1), truth()]
    factors = repeat_factors(truths, 3, 0.4)
    assert factors.tolist() == [1.0] * 8 + [2.0, 1.0]
    assert repeat_factors(truths, 3, 0.05).tolist() == [1.0] * 10


def test_an_epoch_has_each_image_as_often_as_its_factor_says():
    """Factors 1, 2 and 1.5: on average over epochs, to one more or less in each."""
    factors = np.array([1.0] * 6 + [2.0, 1.5])
    order = EpochOrder(8, 3, seed=0, factors=factors)
    assert len(order) == 3  # 9.5 images in batches of 3
    counts: Counter[int] = Counter()
    for number in range(400):
        items = [item for batch in epoch(order, number) for item in batch]
        assert len(items) == 9
        counts += Counter(item.image for item in items)
        for index in range(8):
            repeats = sorted(i.repeat for i in items if i.image == index)
            assert len(set(repeats)) == len(repeats)
    shares = np.array([counts[i] for i in range(8)]) / 400
    np.testing.assert_allclose(shares, factors * 9 / 9.5, atol=0.1)


def test_batches_hold_one_group_in_mixed_order():
    groups = np.array([0, 1] * 10)
    order = EpochOrder(20, 4, seed=1, groups=groups)
    batches = epoch(order)
    assert len(batches) == len(order) == 4
    kinds = [{int(groups[item.image]) for item in batch} for batch in batches]
    assert all(len(kind) == 1 for kind in kinds)
    orders = {tuple(min(groups[i.image] for i in b) for b in epoch(order, n)) for n in range(8)}
    assert len(orders) > 1
    assert not order.has_one_size


def test_a_group_smaller_than_a_batch_is_a_batch_of_its_own():
    order = EpochOrder(7, 4, seed=1, groups=np.array([0, 0, 0, 0, 0, 1, 1]))
    assert sorted(len(batch) for batch in epoch(order)) == [2, 4]


def test_each_batch_has_one_scale_until_the_plain_epochs():
    order = EpochOrder(64, 2, seed=0, scales=(0.5, 1.0, 2.0), plain_from=3)
    for number in range(3):
        scales = [{item.scale for item in batch} for batch in epoch(order, number)]
        assert all(len(scale) == 1 for scale in scales)
        assert set.union(*scales) == {0.5, 1.0, 2.0}
    assert {item.scale for batch in epoch(order, 3) for item in batch} == {1.0}


@pytest.mark.parametrize(
    "settings",
    [{}, {"factors": np.linspace(1, 2, 20)}, {"groups": np.arange(20) % 3}, {"scales": (1.0, 2.0)}],
    ids=["plain", "repeats", "groups", "scales"],
)
def test_an_epoch_goes_on_where_it_was(settings):
    order = EpochOrder(20, 3, seed=5, **settings)
    whole = epoch(order, 2)
    order.done = 2
    assert epoch(order, 2) == whole[2:]


def test_what_is_off_changes_no_order():
    """The order of runs before there was any of this."""
    found = [[item[:2] for item in batch] for batch in epoch(EpochOrder(10, 4, seed=3), 1)]
    permutation = np.random.default_rng([3, 1]).permutation(10).tolist()
    assert found == [[(1, i) for i in permutation[:4]], [(1, i) for i in permutation[4:8]]]
    assert epoch(EpochOrder(10, 4, seed=3))[0][0] == Item(0, epoch(EpochOrder(10, 4, 3))[0][0][1])


def test_the_sizes_at_which_a_run_trains():
    data = DataConfig(root="x", scales=(0.5, 1.0))
    assert training_sizes(data, (96, 320)) == [(64, 160)]  # half of 96 is 1.5 strides
    wide = DataConfig(root="x", rectangular=((96, 320), (320, 96)))
    assert training_sizes(wide, (96, 320)) == [(320, 96)]
    assert training_sizes(DataConfig(root="x"), (96, 320)) == []


SHARDS = np.repeat(np.arange(40), 25)
"""A thousand images in forty shards."""


def test_an_epoch_over_shards_has_each_image_once_and_reads_few_shards_at_a_time():
    order = near_order(SHARDS, np.random.default_rng(0))
    assert sorted(order) == list(range(1000))
    seen = SHARDS[order]
    assert max(len(set(seen[i : i + 100])) for i in range(900)) <= 15  # of 40
    assert len(set(seen[:100])) > 4
    firsts = [seen.tolist().index(shard) for shard in range(40)]
    assert firsts != sorted(firsts)
    assert near_order(SHARDS, np.random.default_rng(0)).tolist() == order.tolist()
    assert near_order(SHARDS, np.random.default_rng(1)).tolist() != order.tolist()


def test_images_of_few_shards_all_mix():
    order = near_order(np.repeat([0, 1], 50), np.random.default_rng(0))
    assert sorted(order) == list(range(100))
    assert 10 < (order[:50] < 50).sum() < 40


def test_batches_over_shards_are_the_rest_where_some_are_done():
    order = EpochOrder(1000, 16, 3, shards=SHARDS)
    whole = epoch(order, 2)
    order.done = 40
    assert epoch(order, 2) == whole[40:]
    assert len({item.image for batch in whole for item in batch}) == 992


@pytest.mark.parametrize("count", [2, 3])
def test_the_shares_of_processes_are_the_batches_of_one_in_turn(count):
    """Over shards, with repeats, several sizes and scales, and behind a state in the epoch."""
    settings: dict[str, Any] = {
        "factors": np.linspace(1, 2.5, 40),
        "groups": np.arange(40) % 2,
        "scales": (0.5, 1.0),
        "shards": np.arange(40) // 2,
    }
    whole = EpochOrder(40, 7, 3, **settings)
    shares = [EpochOrder(40, 7, 3, share=Share(i, count), **settings) for i in range(count)]
    for order in (whole, *shares):
        order.epoch, order.done = 2, 3
    batches = list(whole)
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == batches
    assert all(list(share.whole()) == batches for share in shares)
    assert {len(batch) for share in shares for batch in share} == {7 // count, -(-7 // count)}
    assert EpochOrder(5, 7, 3).least_images == 5
    assert whole.least_images == 7
