import torch

from edgedetr.distill.detectors import fcos


def test_a_score_is_the_geometric_mean_of_class_and_centerness():
    """sigmoid(log 3) is 3/4, sigmoid(-log 3) is 1/4: sqrt(3 / 16)."""
    log3 = torch.tensor(3.0).log()
    outputs = {"cls_logits": log3.reshape(1, 1, 1), "bbox_ctrness": -log3.reshape(1, 1, 1)}
    torch.testing.assert_close(fcos._scores(outputs), torch.full((1, 1, 1), (3 / 16) ** 0.5))


def test_a_location_is_ignored_where_the_middle_of_its_anchor_is():
    anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0], [4.0, 0.0, 12.0, 8.0]])  # middles at x 4 and 8
    areas = torch.tensor([[6.0, 0.0, 20.0, 20.0]])
    assert fcos._inside(anchors, areas).tolist() == [False, True]
    assert fcos._inside(anchors, areas[:0]).tolist() == [False, False]


def test_a_preset_builds_its_shape(make_model):
    network = make_model("fcos").network
    assert fcos.width(network) == fcos.embedding_width(network) == 64
    assert fcos.anchor_kinds(network) == 1
    assert network.topk_candidates == 300
