"""What losses are told of a whole batch, by a part that two images of four are in."""

from dataclasses import replace

import pytest
import torch

from edgedetr.distill.networks import whole_batch
from edgedetr.distill.networks.whole_batch import Part, labelled_part, part_of


class Twice:
    """Sums of two parts that are alike."""

    def total(self, value):
        return 2 * value

    def count(self, value):
        return 2 * value

    def every(self, values):
        return [*values, *values], len(values)

    def gathered(self, rows):
        return torch.cat([rows, rows]), len(rows)

    def summed(self, value):
        return 2 * value


@pytest.fixture
def part(make_targets):
    """The images 1 and 3 of four, of which the last two have no labels."""
    some = [make_targets(*[(0.5, 0.5, 0.1, 0.1)] * count) for count in (3, 1, 0, 2)]
    targets = (*some[:2], *(replace(t, labelled=False) for t in some[2:]))
    return Part(targets, (1, 3), Twice())


def test_a_whole_batch_is_as_without_parts():
    values = torch.tensor([1.0, 3.0])
    assert whole_batch.current_part() is None
    assert whole_batch.mean(values) == 2
    assert whole_batch.share(3) == 1
    assert whole_batch.images(2) == 2
    assert whole_batch.sizes([3, 1]) == [3, 1]
    assert whole_batch.count(5) == whole_batch.total(torch.tensor(5)) == 5
    assert whole_batch.every([7]) == ([7], 0)


def test_figures_of_a_part_are_those_of_the_whole_batch(part):
    with part_of(part):
        assert whole_batch.mean(torch.tensor([1.0, 3.0])) == 1  # of four images
        assert whole_batch.share(3) == 0.5
        assert whole_batch.share(0, least=1) == 1
        assert whole_batch.images(2) == 4
        assert whole_batch.sizes([1, 2]) == [3, 1, 0, 2]
        assert whole_batch.count(5) == whole_batch.total(torch.tensor(5)) == 10
        assert whole_batch.gathered(torch.ones(2, 3))[0].shape == (4, 3)
    assert whole_batch.current_part() is None


def test_a_part_takes_its_rows_of_what_is_drawn_for_all(part):
    with part_of(part):
        assert torch.equal(
            whole_batch.drawn(lambda shape: torch.arange(8.0).view(shape), (2, 2)),
            torch.tensor([[2.0, 3.0], [6.0, 7.0]]),
        )
        assert whole_batch.for_every_image([], lambda all_: [len(t.labels) for t in all_]) == [1, 2]
        torch.manual_seed(0)
        second = whole_batch.permutations([[3, 4], [5]], torch.device("cpu"))
    assert [[len(order) for order in orders] for orders in second] == [[3, 4], [5]]
    torch.manual_seed(0)
    drawn = [torch.randperm(n) for n in (3, 4, 5, 3, 4, 5)]
    assert torch.equal(second[1][0], drawn[5])


def test_images_with_labels_are_a_batch_of_their_own(part):
    with part_of(part), labelled_part():
        inner = whole_batch.current_part()
        assert inner is not None
        assert (len(inner.targets), inner.rows) == (2, (1,))
    with labelled_part():
        assert whole_batch.current_part() is None
