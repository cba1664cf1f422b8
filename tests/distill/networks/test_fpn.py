import torch

from edgedetr.distill.detectors import detector
from edgedetr.distill.networks.fpn import PyramidAnchors
from edgedetr.distill.types import Pyramid


def test_the_published_backbones_have_five_levels_of_the_right_strides():
    for family, finest in (("faster_rcnn", 4), ("fcos", 8)):
        model = detector(family).build("r18", 3).eval()
        with torch.no_grad():
            pyramid = detector(family).encode(model, torch.zeros(1, 3, 128, 256))
        grids = [tuple(x.shape[1:]) for x in pyramid.levels]
        assert grids == [(256, 128 // s, 256 // s) for s in (finest << i for i in range(5))]
        assert isinstance(pyramid, Pyramid)
        assert pyramid.hw == (128, 256)


def test_anchors_lie_at_the_true_strides():
    anchors = PyramidAnchors(4, [2.0], [0.5, 2.0])
    levels = [torch.zeros(1, 1, -(-96 // s), -(-64 // s)) for s in (4, 8, 16, 32, 64)]
    boxes = anchors.on(levels, (96, 64))
    assert len(boxes) == 2 * (24 * 16 + 12 * 8 + 6 * 4 + 3 * 2 + 2 * 1)
    assert boxes[:3].tolist() == [[-6, -3, 6, 3], [-3, -6, 3, 6], [-2, -3, 10, 3]]
    assert boxes[-4:].tolist() == [  # 3 rows of stride 32 become 2 of stride 64
        [-91, -45, 91, 45],
        [-45, -91, 45, 91],
        [-91, 19, 91, 109],
        [-45, -27, 45, 155],
    ]
