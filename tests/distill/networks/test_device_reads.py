"""Reads of a device that travel together."""

import numpy as np
import pytest
import torch

from edgedetr.distill.networks.device_reads import DeviceReads, read, read_later, reads_together
from edgedetr.distill.networks.finite import NotFiniteError, require_finite_when_read


@pytest.fixture
def transfers(monkeypatch):
    """How many numbers each transfer moves, from here on."""
    moved = []
    cpu = torch.Tensor.cpu

    def counted(self):
        moved.append(self.numel())
        return cpu(self)

    monkeypatch.setattr(torch.Tensor, "cpu", counted)
    return moved


def test_what_waits_comes_with_the_next_read_in_its_order(transfers):
    given: list[list[float]] = []
    reads = DeviceReads()
    costs = torch.arange(6.0).reshape(2, 3)
    with reads_together(reads):
        read_later(torch.tensor([7.0, 8.0]), lambda some: given.append(some.tolist()))
        read_later(torch.tensor([9.0]), lambda some: given.append(some.tolist()))
        assert given == []
        assert np.array_equal(read(costs), costs.numpy())

    assert given == [[7.0, 8.0], [9.0]]
    assert transfers == [9]


def test_the_rest_is_read_by_itself_and_once(transfers):
    given: list[float] = []
    reads = DeviceReads()
    reads.later(torch.tensor([1.0]), given.extend)
    reads.rest()
    reads.rest()

    assert given == [1.0]
    assert transfers == [1]


def test_outside_of_a_step_nothing_waits():
    given: list[float] = []
    read_later(torch.tensor([3.0]), given.extend)
    assert given == [3.0]
    assert read(torch.ones(2)).tolist() == [1.0, 1.0]


def test_outputs_that_are_not_finite_are_refused_before_what_is_read_after_them_is_used():
    with reads_together(DeviceReads()):
        require_finite_when_read(logits=torch.tensor([torch.nan]), boxes=torch.zeros(2))
        with pytest.raises(NotFiniteError, match="the network's logits are not finite"):
            read(torch.ones(3))
