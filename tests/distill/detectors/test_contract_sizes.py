"""Multi-scale and rectangular training: every family trains at any size in turn."""

import pytest
import torch

from edgedetr.runtime.plugins import names


@pytest.mark.parametrize("family", names("edgedetr.distill.detectors"))
def test_a_detector_trains_at_several_sizes_in_turn(family, make_model, targets):
    model = make_model(family)
    model.network.train()
    for hw in ((64, 96), (96, 128), (128, 64), (64, 96)):
        losses, memory = model.training_pass(torch.rand(2, 3, *hw), targets)
        total = torch.stack([*losses.values()]).sum()
        assert torch.isfinite(total)
        assert all(torch.isfinite(part).all() for part in memory.tensors()[:1])
        torch.autograd.backward(total)
