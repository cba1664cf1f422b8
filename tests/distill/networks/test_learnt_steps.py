"""Steps are learnt as the paper has it, on numbers worked out by hand."""

import math

import pytest
import torch
from torch import nn
from typing_extensions import override

from edgedetr.distill.networks.fake_quantization import (
    LEARNT,
    Quantization,
    QuantizedLayer,
    forget_steps,
    learn_steps,
    learnt_steps,
    simulated,
)
from edgedetr.distill.networks.learnt_steps import GAIN, LearntSteps, rounded, rounded_weight

LAYERS = (
    QuantizedLayer("stem", "", 0.5, input_range="x"),
    QuantizedLayer("left", "", 0.25, input_range="y"),
    QuantizedLayer("right", "", 0.25, input_range="y"),
)
QUANTIZATION = Quantization(LAYERS, "", "", "mse", 99.99, 4, "", is_learnt=True)


def gradient_of(tensor):
    assert tensor.grad is not None
    return tensor.grad


def test_the_gradient_of_a_step_is_what_rounding_and_clipping_add():
    """0.3 and 1.6 add -0.3 and 0.4, of 200 and -300 the ends 127 and -128; four values share it."""
    x = torch.tensor([[0.3, 1.6, 200.0, -300.0]], requires_grad=True)
    step = torch.tensor(1.0, requires_grad=True)
    y = rounded(x, step)
    assert y.tolist() == [[0.0, 2.0, 127.0, -128.0]]
    y.sum().backward()
    wanted = (-0.3 + 0.4 + 127 - 128) / math.sqrt(4 * 127)
    assert gradient_of(step).item() == pytest.approx(wanted, rel=1e-4)
    assert gradient_of(x).tolist() == [[1.0, 1.0, 0.0, 0.0]]


def test_the_gradient_is_scaled_by_the_values_of_one_image():
    step = torch.tensor(1.0, requires_grad=True)
    rounded(torch.full((2, 4), 0.3), step).sum().backward()
    assert gradient_of(step).item() == pytest.approx(8 * -0.3 / math.sqrt(4 * 127))


def test_each_output_channel_has_its_step():
    """The first channel rounds 0.9 to 1, the second clips -300 to -127 halves."""
    weight = torch.tensor([[0.9, 0.0], [-300.0, 0.5]])
    steps = torch.tensor([1.0, 0.5], requires_grad=True)
    y = rounded_weight(weight, steps)
    assert y.tolist() == [[1.0, 0.0], [-63.5, 0.5]]
    y.sum().backward()
    wanted = [0.1 / math.sqrt(2 * 127), -127 / math.sqrt(2 * 127)]
    assert gradient_of(steps).tolist() == pytest.approx(wanted, rel=1e-4)


def test_steps_start_at_calibration_and_move_by_their_logarithm():
    steps = LearntSteps({"x": 0.5}, [torch.tensor([0.25, 0.125]), torch.tensor([2.0])])
    assert {n: s.item() for n, s in steps.of_activations().items()} == {"x": 0.5}
    assert [s.tolist() for s in steps.of_weights()] == [[0.25, 0.125], [2.0]]
    with torch.no_grad():
        steps.activations.add_(math.log(2) / GAIN)
    assert steps.of_activations()["x"].item() == pytest.approx(1.0, rel=1e-3)
    steps.of_activations()["x"].backward()
    assert gradient_of(steps.activations).item() == pytest.approx(GAIN * 1.0, rel=1e-3)


class Network(nn.Module):
    """Two layers that read the result of a third."""

    def __init__(self):
        super().__init__()
        self.stem, self.left, self.right = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)

    @override
    def forward(self, x):
        x = self.stem(x)
        return self.left(x) + self.right(x)


def network():
    torch.manual_seed(0)
    return Network()


def test_a_network_starts_with_what_it_computes_without_learning():
    net, fixed = network(), Quantization(LAYERS, "", "", "mse", 99.99, 4, "")
    x = torch.rand(5, 3)
    with torch.no_grad(), simulated(net, fixed):
        before = net(x)
    learn_steps(net, QUANTIZATION)
    with torch.no_grad(), simulated(net, QUANTIZATION):
        after = net(x)
    # steps of weights are those of FP16, a part in two thousand away
    torch.testing.assert_close(after, before, rtol=0.02, atol=0.02)


def test_layers_that_read_one_tensor_share_a_step():
    net = network()
    learn_steps(net, QUANTIZATION)
    learnt = learnt_steps(net)
    assert learnt is not None
    assert {n: s.item() for n, s in learnt.of_activations().items()} == {"x": 0.5, "y": 0.25}
    with simulated(net, QUANTIZATION):
        net(torch.rand(5, 3)).square().sum().backward()
    assert gradient_of(learnt.activations).abs().min() > 0
    assert gradient_of(learnt.weights).shape == (8,)


def test_learnt_steps_are_forgotten_where_they_are_not_learnt():
    net = network()
    learn_steps(net, QUANTIZATION)
    assert LEARNT in dict(net.named_children())
    forget_steps(net)
    forget_steps(net)
    assert LEARNT not in dict(net.named_children())
    learn_steps(net, QUANTIZATION)
    learn_steps(net, Quantization(LAYERS, "", "", "mse", 99.99, 4, ""))
    assert learnt_steps(net) is None
