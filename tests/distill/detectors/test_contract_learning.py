import pytest
import torch

from edgedetr.runtime.plugins import names

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("family", names("edgedetr.distill.detectors"))
def test_thirty_steps_on_two_images_lower_the_loss(family, make_model, images, targets):
    model = make_model(family)
    model.network.train()
    optimizer = torch.optim.AdamW(model.network.parameters(), 1e-3)
    torch.manual_seed(0)
    totals = []
    for _ in range(30):
        losses, _ = model.training_pass(images, targets)
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.network.parameters(), 1.0)
        optimizer.step()
        totals.append(total.item())
    assert sum(totals[-3:]) < 0.8 * sum(totals[:3])
