"""Every detector family as typed FP16 and as INT8: which parts become what, and what runs it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import onnx
import pytest
from onnx import TensorProto

from edgedetr.calib.placement import points
from edgedetr.calib.stats import CalibrationStats, TensorRange
from edgedetr.export.transforms.halve import halve
from edgedetr.export.transforms.quantize import TYPED_OPSET, quantize
from edgedetr.graph.requirements import raise_opset
from edgedetr.graph.wiring import Wiring, element_types, label
from edgedetr.runtime.plugins import names

if TYPE_CHECKING:
    from edgedetr.distill.model import Model

pytestmark = pytest.mark.slow

PRESETS = {
    "d_fine": ("backbone", "encoder", "encoder_input_proj"),
    "dab_detr": ("backbone", "input_projection"),
    "deformable_detr": ("backbone", "input_proj"),
    "deimv2": ("conv_encoder", "encoder"),
    "dino": ("backbone", "input_proj"),
    "faster_rcnn": ("backbone",),
    "fcos": ("backbone",),
    "retinanet": ("backbone",),
    "rt_detr": ("backbone", "encoder", "encoder_input_proj"),
    "rt_detr_v2": ("backbone", "encoder", "encoder_input_proj"),
}
"""The parts of each family whose convolutions are INT8 by default: all of them but the first,
depthwise ones and those of few channels."""

PART = re.compile(r"^/(?:network/)?(?:model/)?([a-z_0-9]+)")


def part(node: onnx.NodeProto) -> str:
    found = PART.match(label(node))
    assert found, label(node)
    return found[1]


@pytest.fixture(scope="module", params=names("edgedetr.distill.detectors"))
def files(request: pytest.FixtureRequest, family_files: Any) -> Any:
    """What the commands write of a family."""
    return family_files(request.param)


@pytest.fixture(scope="module")
def traced(files: Any) -> tuple[str, Model, onnx.ModelProto]:
    return files.model.family, files.model, onnx.load(files.traced)


def test_int8_goes_into_all_of_backbone_and_encoder_and_nowhere_else(
    traced: tuple[str, Model, onnx.ModelProto],
) -> None:
    family, model, graph = traced
    wiring = Wiring(graph.graph)
    ranges = tuple(
        TensorRange(name, 1.0, 1.0) for name in [*wiring.inputs, *wiring.producer] if name
    )
    stats = CalibrationStats("", "", model.spec, "max", 100.0, 1, "", ranges)
    quantized = quantize(graph, stats)
    dequantized = {n.output[0] for n in quantized.graph.node if n.op_type == "DequantizeLinear"}
    inside = {
        label(n): part(n)
        for n in quantized.graph.node
        if n.op_type == "Conv" and dequantized.issuperset(n.input[:2])
    }
    assert set(inside.values()) == set(PRESETS[family])
    first = {p.index for p in points(wiring) if p.is_first}
    slow = {p.index for p in points(wiring) if not p.has_kernel}
    left = {
        label(n)
        for i, n in enumerate(wiring.nodes)
        if n.op_type == "Conv" and part(n) in PRESETS[family] and i not in first | slow
    }
    assert left == set(inside)
    assert len(first) == 1
    changed = {n.op_type for n in quantized.graph.node if not dequantized.isdisjoint(n.input)}
    assert changed <= {"Conv", "Add", "Concat"}


def test_all_work_is_fp16_and_no_two_types_meet(
    traced: tuple[str, Model, onnx.ModelProto],
) -> None:
    _, model, graph = traced
    half, share = halve(raise_opset(graph, TYPED_OPSET), model.spec)
    assert share.half_macs == share.macs
    types = element_types(half)
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16}
    made_by = {name: n for n in half.graph.node for name in n.output}
    for node in half.graph.node:
        if node.op_type in {"Add", "Sub", "Mul", "Div", "Pow", "MatMul", "Conv", "Concat", "Where"}:
            assert len({types[i] for i in (*node.input, *node.output)} & floats) <= 1, node.name
        if node.op_type == "Cast" and {types[node.input[0]], types[node.output[0]]} == floats:
            before = made_by.get(node.input[0])
            assert (
                before is None or before.op_type != "Cast" or types[before.input[0]] not in floats
            )
