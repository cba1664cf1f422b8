"""Regions pooled by Gather: the numbers of torchvision's RoiAlign, without its node."""

from __future__ import annotations

from typing import Any, get_args

import pytest

pytest.importorskip("torch")

import onnx
import torch

from edgedetr.distill.detectors import faster_rcnn
from edgedetr.distill.types import Pyramid
from edgedetr.export.transforms import roi_align
from edgedetr.export.transforms.deformable_attention import Form
from edgedetr.export.transforms.roi_align import pooled_by_gather, regions_pooled_by
from edgedetr.export.transforms.trace import trace
from edgedetr.runtime.errors import UsageError

HW = (64, 96)


def pyramid(batch=2, channels=5):
    """Random levels of strides 4 to 64."""
    generator = torch.Generator().manual_seed(0)
    sides = [(HW[0] // stride or 1, HW[1] // stride or 1) for stride in (4, 8, 16, 32, 64)]
    levels = tuple(torch.randn(batch, channels, *hw, generator=generator) for hw in sides)
    return Pyramid(levels, HW)


def boxes(count=60):
    """Boxes (2, count, 4) of all sizes, some without area, at the border or outside."""
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(2, count, 2, 2, generator=generator).sort(2).values
    found = corners.flatten(2) * torch.tensor([96.0, 64.0, 96.0, 64.0])
    found[:, ::2, 2:] = found[:, ::2, :2] + 0.2 * (found[:, ::2, 2:] - found[:, ::2, :2])
    found[:, 0] = torch.tensor([96.0, 64.0, 96.0, 64.0])
    found[:, 1] = torch.tensor([0.0, 0.0, 96.0, 64.0])
    found[:, 3] = torch.tensor([93.0, 0.0, 96.0, 3.0])
    found[:, 5] = torch.tensor([-30.0, -9.0, 20.0, 90.0])
    return found


@pytest.fixture(scope="module")
def pool():
    """How the smallest preset pools."""
    heads: Any = faster_rcnn.build("edge-tiny", 3).roi_heads
    return heads.box_roi_pool


def test_gathering_is_roi_align(pool):
    wanted = faster_rcnn.pooled_by_selection(pool, pyramid(), boxes())
    found = pooled_by_gather(pool, pyramid(), boxes())
    assert found.shape == (120, 5, 7, 7)
    assert len(faster_rcnn.levels_of(pool, boxes().flatten(0, 1)).unique()) >= 3
    assert (wanted[0] == 0).float().mean() > 0.5  # beyond the map
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_a_pyramid_that_float32_cannot_count_is_refused():
    level = torch.zeros(1, 1, 1, 1).expand(1, 1, 4096, 4097)
    with pytest.raises(UsageError, match=r"16781312 cells is too large .* grid_sample"):
        roi_align._shapes((level,), boxes())


def test_the_function_comes_back_after_an_error():
    own = faster_rcnn.pooled_by_selection
    with pytest.raises(ZeroDivisionError), regions_pooled_by("gather"):
        raise ZeroDivisionError
    assert faster_rcnn.pooled_by_selection is own


@pytest.mark.slow
def test_the_graph_has_the_node_only_where_it_was_asked_for(settled_model, tmp_path):
    model, counts = settled_model("faster_rcnn"), dict[str, int]()
    for form in get_args(Form):
        trace(model, tmp_path / "m.onnx", form)
        nodes = onnx.load(tmp_path / "m.onnx").graph.node
        counts[form] = sum(node.op_type == "RoiAlign" for node in nodes)
    assert counts == {"gather": 0, "gather_sum": 0, "grid_sample": 4, "plugin": 0, "discrete": 0}
