"""NaN, overflow and saturation in the activations of two models."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.export.verify.compare import verify
from edgedetr.export.verify.limits import FP16_LIMITS, Gate
from edgedetr.export.verify.matching import Rule

ONE_DECIDES = Gate(lost_share=0.96)  # one detection that is kept: at most 95 % are lost
WHITE = [np.full((20, 40, 3), 255, np.uint8)]


@pytest.fixture
def pair(tiny_onnx, tmp_path):
    """A tiny model and a copy of which the logits pass ``nodes``."""

    def make(nodes, constants=None):
        good = tiny_onnx().rename(tmp_path / "good.onnx")
        model = onnx.load(good)
        offset = next(n for n in model.graph.node if n.name == "offset")
        offset.output[0] = "offset_out"
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in (constants or {}).items()
        )
        onnx.save(model, tmp_path / "bad.onnx")
        return good, tmp_path / "bad.onnx"

    return make


def test_a_nan_in_the_middle_fails_though_the_outputs_are_right(pair):
    nodes = [
        helper.make_node("Sqrt", ["minus"], ["broken"], "a_constant"),
        helper.make_node("Mul", ["broken", "mean"], ["spread"], "broken_here"),
        helper.make_node("Where", ["never", "spread", "offset_out"], ["logits"], "hide"),
    ]
    good, bad = pair(nodes, {"minus": np.array([-1], np.float32), "never": np.array([False])})
    report = verify(good, bad, WHITE, Rule(), Gate())
    assert report.figures.max_score_error == 0
    assert not report.passed
    assert report.reason == (
        "bad.onnx: 1 of 8 activations not finite, first at broken_here (1 NaN, 0 Inf)"
    )
    back = verify(bad, good, WHITE, Rule(), Gate())
    assert back.reason.startswith("bad.onnx: 1 of 8 activations not finite")


def test_fp16_that_saturates_is_named_and_passes(pair):
    def half(factor, least):
        down, up = (
            helper.make_node("Cast", [a], [b], b, to=kind)
            for a, b, kind in (
                ("mean", "mean_half", TensorProto.FLOAT16),
                ("clipped", "full", TensorProto.FLOAT),
            )
        )
        nodes = [
            down,
            helper.make_node("Mul", ["mean_half", "factor"], ["large"], "enlarge"),
            helper.make_node("Min", ["large", "end"], ["clipped"], "clip"),
            up,
            helper.make_node("Mul", ["full", "none"], ["nothing"], "forget"),
            helper.make_node("Add", ["nothing", "offset_out"], ["logits"], "add"),
        ]
        values = {
            "factor": np.array([factor], np.float16),
            "end": np.array([least], np.float16),
            "none": np.array([0], np.float32),
        }
        return pair(nodes, values)

    good, fine = half(60000, 65504)
    report = verify(good, fine, WHITE, Rule(), ONE_DECIDES)
    assert report.precisions == ("fp32", "fp16")
    assert report.limits == ONE_DECIDES.limits("fp16") == replace(FP16_LIMITS, lost_share=0.96)
    assert report.passed, report.reason
    assert verify(good, fine, WHITE, Rule(), Gate()).verdict == "undecided"
    good, full = half(65504, 65504)
    report = verify(good, full, WHITE, Rule(), ONE_DECIDES)
    assert report.passed, report.reason
    assert "FP16 saturates in 2, first at enlarge (1 value)" in report.table()


def test_infinity_that_the_reference_has_too_is_meant(pair, tmp_path):
    nodes = [
        helper.make_node("Div", ["mean", "none"], ["mask"], "mask"),
        helper.make_node("Where", ["never", "mask", "offset_out"], ["logits"], "hide"),
    ]
    good, masked = pair(nodes, {"none": np.array([0], np.float32), "never": np.array([False])})
    assert verify(masked, masked, WHITE, Rule(), Gate()).passed
    model = onnx.load(masked)
    shift = next(t for t in model.graph.initializer if t.name == "none")
    shift.CopyFrom(numpy_helper.from_array(np.array([1], np.float32), "none"))
    onnx.save(model, tmp_path / "finite.onnx")
    report = verify(tmp_path / "finite.onnx", masked, WHITE, Rule(), Gate())
    assert "first at mask (0 NaN, 1 Inf)" in report.reason
    assert verify(good, masked, WHITE, Rule(), Gate()).passed  # of one graph only
