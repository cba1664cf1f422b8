from collections import Counter
from typing import Any, get_args

import onnx
import pytest

pytest.importorskip("torch")

import torch
from torch.nn import functional as F

from edgedetr.distill.detectors import answers_queries, detector
from edgedetr.distill.model import new_model
from edgedetr.export.commands.onnx import FORMS
from edgedetr.export.deformable_attention import (
    Form,
    bilinear_sample,
    nearest_sample,
    sampled_by,
)
from edgedetr.export.to_onnx import export_onnx
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.plugins import names
from edgedetr.runtime.spec import ModelSpec

FAMILIES = [f for f in names("edgedetr.distill.detectors") if answers_queries(detector(f))]
WITHOUT = {"dab_detr"}
"""Families whose attention is dense."""


def test_the_command_names_every_form():
    assert get_args(Form) == FORMS


@pytest.mark.parametrize("hw", [(7, 9), (1, 3), (12, 40)])
def test_gathering_is_grid_sampling(hw):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(6, 5, *hw, generator=generator)
    points = torch.rand(6, 11, 4, 2, generator=generator) * 4 - 2  # half of them outside
    points[0, 0, 0] = torch.tensor([-1.0, 1.0])
    points[0, 0, 1] = torch.tensor([1e6, -1e6])
    wanted = F.grid_sample(maps, points, "bilinear", "zeros", align_corners=False)
    torch.testing.assert_close(bilinear_sample(maps, points), wanted, atol=1e-5, rtol=0)


def test_a_point_between_four_cells_by_hand():
    """A quarter of the way right and half of the way down between 1, 2 / 3, 4."""
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    points = torch.tensor([[[[-0.25, 0.0]]]])
    assert bilinear_sample(maps, points).item() == pytest.approx(2.25)
    assert nearest_sample(maps, points).item() == 3


def test_the_nearest_cell_is_inside_even_for_points_outside():
    maps = torch.arange(6.0).reshape(1, 1, 2, 3)
    points = torch.tensor([[[[-9.0, -9.0], [9.0, 9.0], [0.0, -0.1], [0.34, 0.1]]]])
    assert nearest_sample(maps, points).flatten().tolist() == [0, 5, 1, 5]


def test_each_map_of_a_batch_reads_itself():
    maps = torch.stack([torch.full((2, 3, 3), float(i)) for i in range(4)])
    points = torch.zeros(4, 5, 1, 2)
    for sample in (bilinear_sample, nearest_sample):
        assert sample(maps, points)[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_says_the_same_by_gathering(family):
    torch.manual_seed(0)
    spec = ModelSpec((64, 96), ("Car", "Pedestrian"))
    model = new_model(family, "edge-tiny", spec)
    model.network.eval()
    with torch.no_grad():  # heads that start at zero say the same of everything
        for parameter in model.network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    images = torch.rand(2, 3, 64, 96)
    own = F.grid_sample
    answers = {}
    for form in get_args(Form):
        with torch.no_grad(), sampled_by(form):
            answers[form] = model.module.predict(model.network, images)
    assert F.grid_sample is own
    for gathered, sampled in zip(answers["gather"], answers["grid_sample"], strict=True):
        torch.testing.assert_close(gathered, sampled, atol=1e-5, rtol=1e-5)
    differs = not torch.equal(answers["discrete"][1], answers["grid_sample"][1])
    assert differs == (family not in WITHOUT)


def test_another_kind_of_sampling_is_refused():
    with sampled_by("gather"), pytest.raises(UsageError, match=r"padding_mode.*border"):
        F.grid_sample(
            torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 1, 2), mode="bilinear",
            padding_mode="border", align_corners=False,
        )  # fmt: skip


def test_the_function_comes_back_after_an_error():
    own = F.grid_sample
    with pytest.raises(ZeroDivisionError), sampled_by("discrete"):
        raise ZeroDivisionError
    assert F.grid_sample is own


@pytest.mark.slow
def test_the_graph_holds_what_was_asked_for(checkpoint, tmp_path):
    kinds, moved = {}, dict[str, Any]()
    for form in get_args(Form):
        path = tmp_path / f"{form}.onnx"
        done = export_onnx(checkpoint, path, deformable_attention=form)
        kinds[form] = Counter(node.op_type for node in onnx.load(path).graph.node)
        moved[form] = done.moved
        assert done.parity.passed
    assert kinds["grid_sample"]["GridSample"] == 6
    assert not kinds["gather"]["GridSample"] + kinds["discrete"]["GridSample"]
    assert not kinds["gather"].keys() & {"Shape", "If", "Range", "ConstantOfShape", "GatherND"}
    assert moved["gather"] is None
    assert "box error at most 0 px" not in moved["discrete"].summary()
