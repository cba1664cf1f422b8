import torch

from edgedetr.distill.detectors import retinanet


def test_a_cell_has_three_sizes_and_three_ratios(make_model):
    network = make_model("retinanet").network
    assert retinanet.anchor_kinds(network) == 9
    anchors = network.anchor_generator.on([torch.zeros(1, 1, 1, 1)] * 5, (8, 8))[:9]
    sizes = (anchors[:, 2:] - anchors[:, :2]).tolist()
    # height over width is 1/2, 1 and 2; the smallest square is two strides of 4 pixels
    assert {(w < h) - (w > h) for w, h in sizes} == {-1, 0, 1}
    assert [8.0, 8.0] in sizes
    assert [12.0, 6.0] in sizes
    assert [6.0, 12.0] in sizes


def test_a_preset_builds_its_shape(make_model):
    network = make_model("retinanet").network
    assert retinanet.width(network) == retinanet.embedding_width(network) == 64
    assert [
        len(h.conv) for h in (network.head.classification_head, network.head.regression_head)
    ] == [2, 2]
