"""Merged layers say what the layers said that they were merged from."""

import copy
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from transformers.models.d_fine.modeling_d_fine import DFineConfig, DFineRepVggBlock
from transformers.models.hgnet_v2.modeling_hgnet_v2 import HGNetV2ConvLayer

from edgedetr.distill.model import new_model
from edgedetr.distill.networks.reparameterize import (
    ReparameterizedBlock,
    drop_absorbed_scales,
    reparameterize,
)
from edgedetr.distill.weights.checkpoint import load_model, save_model
from edgedetr.runtime.spec import ModelSpec


def settle(network: Any) -> Any:
    """Give every batch norm and affine layer the values of a trained one."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.uniform_(-1, 1)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 2)
                module.bias.uniform_(-1, 1)
            if type(module).__name__ == "HGNetV2LearnableAffineBlock":
                module.scale.uniform_(0.5, 2)
                module.bias.uniform_(-1, 1)
    return network.eval()


def test_two_branches_are_one_convolution_by_hand():
    block = DFineRepVggBlock(DFineConfig(activation_function="relu"), 1, 1).eval()
    with torch.no_grad():
        for branch, weight in ((block.conv1, 2.0), (block.conv2, 3.0)):
            branch.conv.weight.fill_(weight)
            branch.norm.eps = 0.0
        block.conv1.norm.running_mean.fill_(1.0)  # (2 * sum - 1) / 1
        block.conv2.norm.running_var.fill_(4.0)  # 3 * x / 2
        block.conv2.norm.bias.fill_(0.5)
        merged = ReparameterizedBlock(block)
    assert merged.conv.weight[0, 0].tolist() == [[2, 2, 2], [2, 3.5, 2], [2, 2, 2]]
    assert merged.conv.bias is not None
    assert merged.conv.bias.tolist() == [-0.5]


@pytest.mark.parametrize("family", ["d_fine", "rt_detr", "rt_detr_v2", "deimv2"])
def test_a_reparameterized_network_has_the_same_outputs_with_fewer_layers(family):
    torch.manual_seed(0)
    model = new_model(family, "edge-tiny", ModelSpec((64, 96), ("Car", "Pedestrian")))
    network = settle(model.network)
    images = torch.rand(2, 3, 64, 96)
    merged = copy.deepcopy(network)
    reparameterize(merged)
    convolutions = [sum(isinstance(m, nn.Conv2d) for m in n.modules()) for n in (network, merged)]
    assert convolutions[1] < convolutions[0]
    traced = copy.deepcopy(merged)
    drop_absorbed_scales(traced)
    with torch.no_grad():
        wanted = replace(model, network=network).encode(images).tensors()[0]
        for other in (merged, traced):
            found = replace(model, network=other).encode(images).tensors()[0]
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    again = copy.deepcopy(merged)
    reparameterize(again)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, merged.state_dict()[name]), name


def test_a_scale_that_is_not_positive_stays():
    layer = settle(HGNetV2ConvLayer(2, 3, 3, use_learnable_affine_block=True))
    with torch.no_grad():
        layer.lab.scale.fill_(-0.5)
    kept = copy.deepcopy(layer)
    network = nn.Sequential(kept)
    reparameterize(network)
    drop_absorbed_scales(network)
    images = torch.rand(1, 2, 5, 5)
    assert torch.equal(kept(images), layer(images))
    assert kept.lab.scale.item() == -0.5
    assert not kept.lab.scale.requires_grad


def test_another_kind_of_block_is_refused():
    block = DFineRepVggBlock(DFineConfig(), 2, 2)
    block.conv2 = block.conv1
    with pytest.raises(ValueError, match="no RepVGG block of 3x3 and 1x1"):
        ReparameterizedBlock(block)


def test_a_merged_network_is_saved_and_loaded(tmp_path):
    model = new_model("d_fine", "edge-tiny", ModelSpec((64, 96), ("Car", "Pedestrian")))
    reparameterize(settle(model.network))
    save_model(tmp_path / "merged.safetensors", model, command="a test")
    loaded = load_model(tmp_path / "merged.safetensors").network.state_dict()
    assert loaded.keys() == model.network.state_dict().keys()
    assert all(torch.equal(v, loaded[k]) for k, v in model.network.state_dict().items())
