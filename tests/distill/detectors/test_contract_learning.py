import pytest
import torch

from edgedetr.runtime.plugins import names

pytestmark = pytest.mark.slow

CONVOLUTIONAL = ("faster_rcnn", "fcos", "retinanet")


@pytest.mark.parametrize("family", names("edgedetr.distill.detectors"))
def test_a_few_steps_on_two_images_lower_the_loss(family, make_model, images, targets):
    """Twenty by a fifth, and fifteen by a half where there are no queries."""
    steps, share = (15, 0.5) if family in CONVOLUTIONAL else (20, 0.8)
    model = make_model(family)
    model.network.train()
    optimizer = torch.optim.AdamW(model.network.parameters(), 1e-3)
    images = images.contiguous(memory_format=torch.channels_last)
    torch.manual_seed(0)
    totals = []
    for _ in range(steps):
        losses, _ = model.training_pass(images, targets)
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.network.parameters(), 1.0)
        optimizer.step()
        totals.append(total.item())
    assert sum(totals[-3:]) < share * sum(totals[:3])
