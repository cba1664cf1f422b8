import math

import pytest
import torch
from torch import nn

from edgedetr.distill.training.averaging import MovingAverage


def test_the_decay_starts_low_and_rises_to_what_is_set():
    network = nn.Linear(1, 1, bias=False)
    average = MovingAverage(network, decay=0.25)
    seen = []
    for value in (1.0, 2.0, 4.0, 8.0):
        nn.init.constant_(network.weight, value)
        average.update(network)
        seen.append(average.module.get_parameter("weight").item())
    # copied; then the decay is 2 / 11, and 3 / 12 = 0.25 from then on
    second = 1 * 2 / 11 + 2 * 9 / 11
    third = second * 0.25 + 4 * 0.75
    assert seen == pytest.approx([1, second, third, third * 0.25 + 8 * 0.75])


def test_running_statistics_are_averaged_and_counters_taken_over():
    network = nn.BatchNorm1d(1)
    average = MovingAverage(network, decay=0.25)
    for _ in range(2):
        network(torch.tensor([[1.0], [3.0]]))
        average.update(network)
    # the mean runs 0, 0.2, 0.38; the average takes 0.2 over and then moves by 9 / 11
    assert average.module.get_buffer("running_mean").item() == pytest.approx(
        0.2 * 2 / 11 + 0.38 * 9 / 11
    )
    assert average.module.get_buffer("num_batches_tracked").item() == 2


def test_it_goes_on_from_its_state():
    network = nn.Linear(1, 1)
    average, again = MovingAverage(network, 0.5), MovingAverage(network, 0.5)
    average.update(network)
    again.load_state_dict(average.state_dict())
    nn.init.constant_(network.weight, 3.0)
    average.update(network)
    again.update(network)
    torch.testing.assert_close(again.state_dict(), average.state_dict(), rtol=0, atol=0)


def test_a_warm_up_lets_the_decay_rise_by_its_exponential():
    """After the first update, which copies: 0.5 * (1 - exp(-1 / 2)) of the old stays."""
    network = nn.Linear(1, 1, bias=False)
    average = MovingAverage(network, decay=0.5, warmup_steps=2)
    for value in (1.0, 3.0):
        with torch.no_grad():
            network.weight.fill_(value)
        average.update(network)
    decay = 0.5 * (1 - math.exp(-0.5))
    weight = average.module.state_dict()["weight"].item()
    assert weight == pytest.approx(decay * 1.0 + (1 - decay) * 3.0)
