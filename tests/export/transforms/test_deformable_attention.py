from collections import Counter
from typing import Any, get_args

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")

import torch
from torch.nn import functional as F

from edgedetr.calib.collect import collect
from edgedetr.distill.detectors import decodes_queries, detector
from edgedetr.distill.model import new_model
from edgedetr.distill.weights.checkpoint import save_model
from edgedetr.export.commands.onnx import FORMS
from edgedetr.export.to_fp16 import export_fp16
from edgedetr.export.to_onnx import export_onnx
from edgedetr.export.to_qdq import export_qdq
from edgedetr.export.transforms.deformable_attention import Form, _places, sample, sampled_by
from edgedetr.export.transforms.trace import trace
from edgedetr.export.verify.runners.onnx import OnnxRunner
from edgedetr.graph.exact import exact_session
from edgedetr.graph.sampling_plugin import is_defined, plugin_nodes
from edgedetr.graph.wiring import element_types
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.plugins import names
from edgedetr.runtime.spec import ModelSpec

FAMILIES = [f for f in names("edgedetr.distill.detectors") if decodes_queries(detector(f))]
WITHOUT = {"dab_detr"}
"""Families whose attention is dense."""
UNLIKE = {"d_fine", "deimv2"}
"""Families that sample more points in one level than in another."""


def test_the_command_names_every_form():
    assert get_args(Form) == FORMS


def by_grid_sample(value, shapes, locations, weights, counts):
    """Read level by level with torch's own function."""
    batch, _, heads, depth = value.shape
    queries = locations.shape[1]
    levels = value.permute(0, 2, 3, 1).flatten(0, 1).split([h * w for h, w in shapes], -1)
    points = (2 * locations - 1).transpose(1, 2).flatten(0, 1).split(counts, -2)
    read = [
        F.grid_sample(x.unflatten(-1, hw), p, "bilinear", "zeros", align_corners=False)
        for x, p, hw in zip(levels, points, shapes, strict=True)
    ]
    weighted = torch.cat(read, -1) * weights.transpose(1, 2).flatten(0, 1).unsqueeze(1)
    return weighted.sum(-1).reshape(batch, heads * depth, queries).transpose(1, 2)


@pytest.mark.parametrize("shapes", [[(7, 9)], [(1, 3), (2, 1)], [(12, 40), (6, 20), (3, 10)]])
def test_gathering_is_grid_sampling(shapes):
    generator = torch.Generator().manual_seed(0)
    counts = [4, 2, 3][: len(shapes)]
    value = torch.randn(2, sum(h * w for h, w in shapes), 3, 5, generator=generator)
    locations = torch.rand(2, 11, 3, sum(counts), 2, generator=generator) * 2 - 0.5
    locations[0, 0, 0, 0] = torch.tensor([0.0, 1.0])
    locations[0, 0, 1, 0] = torch.tensor([1e6, -1e6])
    locations[0, 0, 2, 0] = torch.tensor([1 + 0.5 / shapes[0][1], -0.5 / shapes[0][0]])
    weights = torch.randn(2, 11, 3, sum(counts), generator=generator)
    arguments = value, shapes, locations, weights, counts
    wanted = by_grid_sample(*arguments)
    for form in ("gather", "gather_sum"):
        torch.testing.assert_close(sample(*arguments, form), wanted, atol=1e-5, rtol=0)


def test_levels_with_different_numbers_of_points_have_no_plugin():
    value, places = torch.zeros(1, 6, 1, 1), torch.zeros(1, 1, 1, 12, 2)
    shapes = [(1, 3), (1, 2), (1, 1)]
    with pytest.raises(UsageError, match=r"samples 3, 6, 3 points .* gather, gather_sum or grid_"):
        sample(value, shapes, places, places[..., 0], [3, 6, 3], "plugin")


def read_one(cells, shape, points, form="gather"):
    """Read points of one map of one channel, each for itself."""
    locations = (torch.tensor(points) + 1).reshape(1, -1, 1, 1, 2) / 2
    value = torch.tensor(cells, dtype=torch.float32).reshape(1, -1, 1, 1)
    weights = torch.ones(1, len(points), 1, 1)
    return sample(value, [shape], locations, weights, [1], form).flatten().tolist()


def test_a_point_between_four_cells_by_hand():
    """A quarter of the way right and half of the way down between 1, 2 / 3, 4."""
    points = [[-0.25, 0.0]]
    assert read_one([1, 2, 3, 4], (2, 2), points) == pytest.approx([2.25])
    assert read_one([1, 2, 3, 4], (2, 2), points, "gather_sum") == pytest.approx([2.25])
    assert read_one([1, 2, 3, 4], (2, 2), points, "discrete") == [3]


def test_the_nearest_cell_is_inside_even_for_points_outside():
    points = [[-9.0, -9.0], [9.0, 9.0], [0.0, -0.1], [0.34, 0.1]]
    assert read_one(range(6), (2, 3), points, "discrete") == [0, 5, 1, 5]


def test_each_image_and_each_head_reads_itself():
    value = torch.arange(4.0).reshape(2, 1, 2, 1).expand(2, 9, 2, 1)
    locations = torch.full((2, 5, 2, 1, 2), 0.5)
    for form in ("gather", "gather_sum", "discrete"):
        read = sample(value, [(3, 3)], locations, torch.ones(2, 5, 2, 1), [1], form)
        assert read[:, 0].tolist() == [[0, 1], [2, 3]]


def test_more_cells_than_float32_counts_are_refused():
    value = torch.zeros(1, 1, 1, 1).expand(1, 4096 * 4097, 1, 1)
    points = torch.zeros(1, 1, 1, 1, 2)
    with pytest.raises(UsageError, match=r"16781312 cells are too many.*grid_sample"):
        sample(value, [(4096, 4097)], points, points[..., 0], [1])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_says_the_same_by_gathering(family, monkeypatch):
    torch.manual_seed(0)
    spec = ModelSpec((64, 96), ("Car", "Pedestrian"))
    model = new_model(family, "edge-tiny", spec)
    model.network.eval()
    with torch.no_grad():  # heads that start at zero say the same of everything
        for parameter in model.network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    images = torch.rand(2, 3, 64, 96)
    own, calls = F.grid_sample, Counter[str]()
    answers = {}
    forms = [form for form in get_args(Form) if form != "plugin" or family not in UNLIKE]
    for form in forms:

        def counted(*args, name=form, **kwargs):
            calls[name] += 1
            return own(*args, **kwargs)

        monkeypatch.setattr(F, "grid_sample", counted)
        with torch.no_grad(), sampled_by(form, model.network):
            answers[form] = model.predict(images)
    assert calls.keys() == (set() if family in WITHOUT else {"grid_sample"})
    for form in forms[:-1]:
        for gathered, sampled in zip(answers[form], answers["grid_sample"], strict=True):
            torch.testing.assert_close(gathered, sampled, atol=1e-5, rtol=1e-5)
    differs = not torch.equal(answers["discrete"][1], answers["grid_sample"][1])
    assert differs == (family not in WITHOUT)
    with torch.no_grad():
        again = model.predict(images)
    assert all(torch.equal(a, b) for a, b in zip(again, answers["grid_sample"], strict=True))


@pytest.mark.parametrize("family", ["d_fine", "rt_detr_v2", "deformable_detr"])
def test_the_functions_come_back_after_an_error(family, settled_model):
    network = settled_model(family).network
    owners = [(owner, name) for owner, name, _ in _places(network, "discrete")]
    own = [getattr(owner, name) for owner, name in owners]
    with sampled_by("discrete", network):
        assert own
        assert all(getattr(*place) != f for place, f in zip(owners, own, strict=True))
    with pytest.raises(ZeroDivisionError), sampled_by("discrete", network):
        raise ZeroDivisionError
    assert [getattr(owner, name) for owner, name in owners] == own


def test_a_network_with_a_method_of_its_own_is_refused(settled_model):
    model = settled_model("rt_detr_v2")
    for module in model.network.modules():
        if hasattr(module, "n_points_list"):
            module.method = "discrete"
    with sampled_by("gather", model.network), pytest.raises(UsageError, match="own method"):
        model.predict(torch.zeros(1, 3, *model.spec.input_hw))


def index_types(graph):
    """Count the types of what Gather nodes take as places, where they are computed."""
    types = {v.name: v.type.tensor_type.elem_type for v in graph.value_info}
    read = [types[n.input[1]] for n in graph.node if n.op_type == "Gather" and n.input[1] in types]
    return Counter(onnx.TensorProto.DataType.Name(kind) for kind in read)


@pytest.mark.slow
def test_the_graph_holds_what_was_asked_for(checkpoint, exported, tmp_path):
    kinds, moved, indices = {}, dict[str, Any](), {}
    for form in get_args(Form):
        if form == "plugin":  # D-FINE's levels have different numbers of points
            continue
        path = tmp_path / f"{form}.onnx"
        if form == "gather":  # which is the default
            path, done = exported
        else:
            done = export_onnx(checkpoint, path, deformable_attention=form)
        graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
        kinds[form] = Counter(node.op_type for node in graph.node)
        indices[form] = index_types(graph)
        moved[form] = done.moved
        assert done.parity.passed
    assert kinds["grid_sample"]["GridSample"] == 6
    assert not kinds["gather"]["GridSample"] + kinds["discrete"]["GridSample"]
    assert not kinds["gather"].keys() & {"Shape", "If", "Range", "ConstantOfShape", "GatherND"}
    layers = kinds["grid_sample"]["GridSample"] // 3  # of three levels
    for form in ("gather", "gather_sum", "discrete"):
        assert indices[form]["INT32"] == layers
    assert kinds["gather_sum"]["MatMul"] < kinds["gather"]["MatMul"]
    assert kinds["gather_sum"].keys() >= {"Mul", "ReduceSum"}
    assert moved["gather"] is moved["gather_sum"] is None
    assert "box error at most 0 px" not in moved["discrete"].summary()


@pytest.mark.parametrize("family", ["rt_detr", "deformable_detr"])
def test_the_plugins_function_finds_what_gathering_finds(family, settled_model, tmp_path):
    """On two images, in the decoder and in the encoder of Deformable DETR."""
    model, answers, path = settled_model(family), [], tmp_path / "m.onnx"
    images = torch.rand(2, 3, *model.spec.input_hw, generator=torch.Generator().manual_seed(0))
    for form in ("gather", "plugin"):
        trace(model, path, form, 2)
        answers.append(exact_session(onnx.load(path), form).run(None, {"images": images.numpy()}))
    nodes = plugin_nodes(onnx.load(path))
    layers = [m for m in model.network.modules() if "DeformableAttention" in type(m).__name__]
    assert len(nodes) == sum(hasattr(layer, "sampling_offsets") for layer in layers) > 1
    for gathered, sampled in zip(*answers, strict=True):
        torch.testing.assert_close(*map(torch.from_numpy, (sampled, gathered)), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_an_exported_plugin_stays_fp32(settled_model, calibration_images, tmp_path):
    """In a graph of FP16, and in one of INT8 and FP16, which has a later opset."""
    model = settled_model("rt_detr")
    checkpoint, full, half = (tmp_path / n for n in ("m.safetensors", "m.onnx", "m.fp16.onnx"))
    save_model(checkpoint, model, command="a test")
    done = export_onnx(checkpoint, full, deformable_attention="plugin")
    assert (done.problem, done.broken, done.moved) == ("", [], None)
    assert done.parity.passed
    export_fp16(full, half)
    collect(full, calibration_images).write(tmp_path / "m.calib.json")
    int8 = tmp_path / "m.int8.onnx"
    export_qdq(full, tmp_path / "m.calib.json", int8)
    count = len(plugin_nodes(onnx.load(full)))
    check_plugins_are_fp32(onnx.load(half), count)
    check_plugins_are_fp32(onnx.load(int8), count)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, *model.spec.input_hw, generator=generator).numpy()
    fine, *coarse = (OnnxRunner(path)(images)[1][0] for path in (full, half, int8))
    for boxes, error in zip(coarse, (1e-3, 1e-2), strict=True):
        nearest = abs(fine[:, None] - boxes).max(-1).min(-1)  # their order may change
        assert np.median(nearest) < error


def check_plugins_are_fp32(written, count):
    assert is_defined(written)
    types = element_types(written)
    read = [types[name] for node in plugin_nodes(written) for name in (*node.input, *node.output)]
    kinds = onnx.TensorProto
    single, whole = kinds.FLOAT, kinds.INT32
    assert read == [single, whole, whole, single, single, single] * count
    assert {kinds.FLOAT16, single} <= {types[n.output[0]] for n in written.graph.node}
