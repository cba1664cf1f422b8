import pytest
import torch

from edgedetr.distill.detectors import retinanet


def test_a_cell_has_three_sizes_and_three_ratios(make_model):
    network = make_model("retinanet").network
    assert retinanet.anchor_kinds(network) == 9
    anchors = network.anchor_generator.on([torch.zeros(1, 1, 1, 1)] * 5)[:9]
    areas = (anchors[:, 2:] - anchors[:, :2]).prod(-1)  # sides of 8 pixels times the octaves
    assert areas.min().item() == pytest.approx(64, rel=0.1)
    assert areas.max().item() == pytest.approx(64 * 2 ** (4 / 3), rel=0.1)


def test_a_preset_builds_its_shape(make_model):
    network = make_model("retinanet").network
    assert retinanet.width(network) == retinanet.embedding_width(network) == 64
    assert [
        len(h.conv) for h in (network.head.classification_head, network.head.regression_head)
    ] == [2, 2]
