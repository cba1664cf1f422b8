import math
from types import SimpleNamespace

import pytest
import torch

from edgedetr.distill.detectors import deimv2
from edgedetr.distill.networks.criterion import Deimv2Criterion

SIZES = [("atto", 0.49), ("femto", 0.96), ("pico", 1.51), ("n", 3.6)]
SIZES += [("s", 9.7), ("m", 18.1), ("l", 32.2), ("x", 50.3)]
NO_AREA = torch.zeros(0, 4)


def config(**values):
    """What the criterion reads of a configuration."""
    with torch.device("meta"):
        default = deimv2.build("edge-tiny", 2).config.to_dict()  # type: ignore[operator, union-attr]
    return SimpleNamespace(**{**default, "num_labels": 2, **values})


@pytest.mark.parametrize(("preset", "published"), SIZES)
def test_the_presets_have_the_published_sizes(preset, published):
    with torch.device("meta"):
        network = deimv2.build(preset, 80)
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    assert millions == pytest.approx(published, rel=0.05)


@pytest.mark.parametrize(("preset", "hw"), [("atto", (256, 320)), ("s", (128, 192))])
def test_published_presets_train_every_parameter(preset, hw, targets):
    torch.manual_seed(0)
    network = deimv2.build(preset, 3).train()
    images = torch.rand(2, 3, *hw)
    losses, memory = deimv2.training_pass(network, images, targets)
    torch.stack(list(losses.values())).sum().backward()
    strides = (16, 32) if preset == "atto" else (8, 16, 32)
    assert memory.spatial_shapes == tuple((hw[0] // s, hw[1] // s) for s in strides)
    assert not [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]


def test_the_matchability_aware_loss_of_hand_worked_logits():
    """A match aims at IoU ** 1.5 with weight 1; background weighs its probability ** 1.5."""
    criterion = Deimv2Criterion(config())
    logits = torch.tensor([[[0.4, -1.0], [2.0, -3.0]]])
    # the first query shares half of its object: 0.2 x 0.2 in 0.2 x 0.4
    boxes = torch.tensor([[[0.5, 0.4, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]]])
    target = {
        "class_labels": torch.tensor([0]),
        "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.4]]),
        "ignored": NO_AREA,
    }
    matched = [(torch.tensor([0]), torch.tensor([0]))]
    outputs = {"logits": logits, "pred_boxes": boxes}
    found = criterion.loss_labels_mal(outputs, [target], matched, 1)["loss_mal"].item()

    def entropy(logit, goal):
        p = 1 / (1 + math.exp(-logit))
        return -goal * math.log(p) - (1 - goal) * math.log(1 - p)

    def background(logit):
        return (1 / (1 + math.exp(-logit))) ** 1.5 * entropy(logit, 0)

    wanted = entropy(0.4, 0.5**1.5) + background(-1.0) + background(2.0) + background(-3.0)
    assert found == pytest.approx(wanted, rel=1e-4)
    silent = {**target, "ignored": torch.tensor([[0.1, 0.1, 0.2, 0.2]])}
    without = criterion.loss_labels_mal(outputs, [silent], matched, 1)["loss_mal"].item()
    assert without == pytest.approx(found - background(2.0) - background(-3.0), rel=1e-4)


def test_every_layer_has_the_distributions_of_its_edges(make_model, images):
    model = make_model("deimv2")
    with torch.no_grad():
        memory = model.encode(images)
        answers = model.decode(memory, memory.own)
    bins = model.network.config.max_num_bins + 1
    assert answers.corners is not None
    assert answers.corners.shape == (2, 2, 40, 4 * bins)
