import torch

from edgedetr.distill.imported import lw_detr
from edgedetr.distill.weights.importing import read_model


def test_it_may_have_more_than_one_level(foreign):
    model = read_model(foreign("lw_detr-larger"))
    levels = lw_detr.encode(model.network, torch.rand(1, 3, 64, 96)).levels
    assert [tuple(level.shape[2:]) for level in levels] == [(8, 12), (2, 3)]
