"""Fake quantization computes what INT8 would, in the layers it is told, and learns through it."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from typing_extensions import override

from edgedetr.distill.networks.fake_quantization import (
    Quantization,
    QuantizedLayer,
    fake_quantized,
    fake_quantized_weight,
    folded,
    quantization_from_json,
    simulated,
    used_layers,
)
from edgedetr.distill.weights.checkpoint import load_model, save_model
from edgedetr.runtime.errors import ArtifactError, EdgeDetrError


def quantization_of(*layers):
    return Quantization(tuple(layers), "", "", "mse", 99.99, 4, "")


def gradient_of(tensor):
    assert tensor.grad is not None
    return tensor.grad


class Block(nn.Module):
    """A convolution with its norm that is added to its input, and a linear layer behind."""

    def __init__(self, *, adds=True):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2)
        self.head = nn.Linear(2, 3)
        self.adds = adds
        with torch.no_grad():
            self.norm.running_mean = torch.empty(2).uniform_(-1, 1)
            self.norm.running_var = torch.empty(2).uniform_(0.5, 2)
            self.norm.weight.uniform_(0.5, 2)
            self.norm.bias.uniform_(-1, 1)

    @override
    def forward(self, x):
        y = self.norm(self.conv(x))
        y = y + x if self.adds else y * x
        return self.head(y.mean((2, 3)))


BLOCK = quantization_of(
    QuantizedLayer("conv", "norm", 0.02, 0.03), QuantizedLayer("head", "", 0.04)
)


def test_rounding_goes_to_even_and_clips_where_int8_ends():
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, 0.49, 127.4, 127.6, 300.0, -127.6, -128.6, -300.0])
    expected = [0.0, 2.0, 2.0, 0.0, -2.0, 0.0, 127.0, 127.0, 127.0, -128.0, -128.0, -128.0]
    assert fake_quantized(x, 1.0).tolist() == expected
    assert fake_quantized(x / 8, 0.125).tolist() == [v / 8 for v in expected]


def test_the_gradient_is_that_of_clipping():
    x = torch.tensor([0.3, 127.4, 127.6, -128.4, -128.6], requires_grad=True)
    (fake_quantized(x, 1.0) * torch.arange(1.0, 6)).sum().backward()
    assert gradient_of(x).tolist() == [1, 2, 0, 4, 0]


def test_weights_have_a_step_for_each_output_channel():
    weight = torch.tensor([[1.27, -0.504], [0.0, 0.0], [12.7, 0.26]], requires_grad=True)
    rounded = fake_quantized_weight(weight)
    expected = torch.tensor([[1.27, -0.50], [0.0, 0.0], [12.7, 0.3]])
    torch.testing.assert_close(rounded, expected, rtol=1e-6, atol=1e-7)
    rounded.sum().backward()
    assert gradient_of(weight).eq(1).all()


@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_batch_norm_gives_the_same_numbers(bias):
    conv, norm = nn.Conv2d(2, 2, 3, bias=bias), Block().norm.eval()
    x = torch.randn(2, 2, 6, 6)
    weight, shift = folded(conv, norm)
    torch.testing.assert_close(nn.functional.conv2d(x, weight, shift), norm(conv(x)))
    assert folded(conv, None)[0] is conv.weight


def test_a_network_computes_as_its_int8_graph_would():
    block, x = Block().eval(), torch.randn(2, 2, 6, 6)
    weight, bias = folded(block.conv, block.norm)
    main = nn.functional.conv2d(
        fake_quantized(x, 0.02), fake_quantized_weight(weight), bias, padding=1
    )
    pooled = (main + fake_quantized(x, 0.03)).mean((2, 3))
    expected = nn.functional.linear(
        fake_quantized(pooled, 0.04), fake_quantized_weight(block.head.weight), block.head.bias
    )
    before = block(x)
    with simulated(block, BLOCK):
        found = block(x)
    assert torch.equal(found, expected)
    assert not torch.allclose(found, before, atol=1e-4)
    assert torch.equal(block(x), before)
    with simulated(block, None):
        assert torch.equal(block(x), before)


def test_a_skip_is_found_on_either_side_and_in_place():
    class Mirrored(Block):
        @override
        def forward(self, x):
            y = self.norm(self.conv(x))
            return self.head((x + y).mean((2, 3)))

    class InPlace(Block):
        @override
        def forward(self, x):
            y = self.norm(self.conv(x))
            y += x
            return self.head(y.mean((2, 3)))

    torch.manual_seed(0)
    blocks = [kind().eval() for kind in (Block, Mirrored, InPlace)]
    x, found = torch.randn(1, 2, 4, 4), []
    for block in blocks:
        block.load_state_dict(blocks[0].state_dict())
        with simulated(block, BLOCK):
            found.append(block(x))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_another_network_is_not_touched():
    student, teacher = Block().eval(), Block().eval()
    x = torch.randn(1, 2, 4, 4)
    before = teacher(x)
    with simulated(student, BLOCK):
        assert torch.equal(teacher(x), before)
        assert not torch.equal(student(x), before)


def test_a_copy_is_simulated_by_its_own_weights():
    block = Block().eval()
    other = copy.deepcopy(block)
    nn.init.zeros_(other.head.weight)
    with simulated(other, BLOCK), torch.no_grad():
        assert torch.equal(other(torch.randn(1, 2, 4, 4))[0], other.head.bias)


def test_gradients_reach_weights_and_norms_through_the_rounding():
    block, plain = Block().eval(), Block().eval()
    plain.load_state_dict(block.state_dict())
    x = torch.randn(2, 2, 6, 6).clamp(-2, 2)
    fine = quantization_of(
        QuantizedLayer("conv", "norm", 0.02, 0.03), QuantizedLayer("head", "", 0.02)
    )
    with simulated(block, fine):
        block(x).square().sum().backward()
    plain(x).square().sum().backward()
    for (name, a), (_, b) in zip(block.named_parameters(), plain.named_parameters(), strict=True):
        found, wanted = gradient_of(a), gradient_of(b)
        torch.testing.assert_close(found, wanted, rtol=0.1, atol=0.05 * float(wanted.abs().max()))
        assert found.abs().sum() > 0, name


def test_an_addition_that_is_not_there_is_an_error():
    block = Block(adds=False).eval()
    with (
        pytest.raises(EdgeDetrError, match="saw no addition behind conv"),
        simulated(block, BLOCK),
    ):
        block(torch.randn(1, 2, 4, 4))


def test_the_layers_of_a_network_are_found_with_their_norms():
    block = Block().eval()
    conv, head = used_layers(block, lambda: block(torch.randn(1, 2, 4, 4)))
    assert (conv.path, conv.norm, conv.calls) == ("conv", "norm", 1)
    assert (head.path, head.norm, head.calls) == ("head", "", 1)
    torch.testing.assert_close(conv.weight, folded(block.conv, block.norm)[0].detach())
    x = torch.randn(1, 2, 4, 4)
    again = used_layers(block, lambda: block(x) + block(x))
    assert [layer.calls for layer in again] == [2, 2]


def test_a_checkpoint_keeps_its_quantization_and_is_otherwise_as_any(make_model, tmp_path):
    model = make_model()
    save_model(tmp_path / "float.safetensors", model, command="a test")
    save_model(tmp_path / "int8.safetensors", replace(model, quantization=BLOCK), command="a test")
    plain, quantized = (load_model(tmp_path / f"{n}.safetensors") for n in ("float", "int8"))
    assert plain.quantization is None
    assert quantized.quantization == BLOCK
    assert plain.network.state_dict().keys() == quantized.network.state_dict().keys()


@pytest.mark.parametrize(
    "text", ["{", "[" * 90_000, "9" * 6000, "{}", BLOCK.to_json().replace("path", "road")]
)
def test_a_damaged_quantization_is_one_line(text):
    with pytest.raises(ArtifactError, match=r"x\.json: its quantization is damaged"):
        quantization_from_json(text, "x.json")
