"""``edgedetr verify`` on what lies inside: FP16 as it is typed, NaN, overflow, foreign models."""

import json
from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.export.verify.activations import look_inside
from edgedetr.export.verify.compare import Looks, verify
from edgedetr.export.verify.limits import FP16_LIMITS, Gate
from edgedetr.export.verify.matching import Rule
from edgedetr.export.verify.runner import OnnxRunner
from edgedetr.graph.exact import Precision
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

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


def test_a_nan_in_the_middle_fails_though_the_answers_are_right(pair):
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
        "1 of 8 activations of bad.onnx are not finite, first broken_here: 1 NaN, 0 infinite"
    )
    back = verify(bad, good, WHITE, Rule(), Gate())
    assert "of bad.onnx are not finite" in back.reason


def test_fp16_that_overflows_is_named_and_saturation_is_told(pair):
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
    assert "FP16 is at its end in 2, first enlarge: 1 numbers" in report.table()


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
    assert "first mask: 0 NaN, 1 infinite" in report.reason
    assert verify(good, masked, WHITE, Rule(), Gate()).passed  # who has no partner is not judged


def test_without_frames_or_graphs_nobody_looks_inside(tiny_onnx):
    class Told:
        precision: Precision = "fp32"
        batch_sizes: tuple[int, ...] = (1,)
        spec = ModelSpec((8, 16), ("Car", "Pedestrian"))

        def __call__(self, images):
            return images, images

    runner = OnnxRunner(tiny_onnx())
    names = ("a", "b")
    assert look_inside((runner, runner), names, []) is None
    assert look_inside((Told(), Told()), names, WHITE) is None


@pytest.fixture
def foreign(tiny_onnx, tmp_path):
    """A model without a spec, its spec as TOML and a folder of images."""
    model = tiny_onnx(store_spec=False).rename(tmp_path / "foreign.onnx")
    spec = tmp_path / "spec.toml"
    spec.write_text('input_hw = [8, 16]\nclass_names = ["Car", "Pedestrian"]\n')
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "white.png"), WHITE[0])
    return model, spec, images


def test_a_foreign_model_needs_a_spec(edgedetr, foreign, tmp_path):
    model, spec, images = foreign
    out = tmp_path / "v.json"
    arguments = ("verify", model, model, "--images", images, "--json", out)
    status, _, error = edgedetr(*arguments)
    assert status == 1
    assert "foreign.onnx holds no model spec" in error
    assert "give --spec SPEC.toml, drafted by edgedetr spec" in error
    assert edgedetr(*arguments, "--spec", spec)[0] == 0
    values = json.loads(out.read_text())
    assert (values["mean_score_drop"], values["max_score_drop"], values["min_iou"]) == (0, 0, 1)
    assert values["reference_precision"] == values["candidate_precision"] == "fp32"
    assert values["activations"]["scans"][0]["tensors"] == 6
    spec.write_text('input_hw = [8, 16]\nclass_names = ["Car", "Pedestrian"]\nlogits_name = "o"\n')
    assert "outputs logits, boxes, its spec wants o" in edgedetr(*arguments, "--spec", spec)[2]


def test_one_of_two_models_may_be_foreign(foreign, tiny_onnx):
    model, *_ = foreign
    own = tiny_onnx()
    looks = Looks(spec=ModelSpec((8, 16), ("Car", "Pedestrian")))
    assert verify(model, own, WHITE, Rule(), Gate(), looks=looks).passed
    other = Looks(spec=ModelSpec((8, 16), ("Car", "Cyclist")))
    with pytest.raises(ArtifactError, match=r"has the classes Car, Cyclist, tiny.onnx Car, Pedes"):
        verify(model, own, WHITE, Rule(), Gate(), looks=other)


def test_a_drop_is_the_score_that_the_candidate_lost(tiny_onnx, tmp_path):
    a = tiny_onnx().rename(tmp_path / "a.onnx")
    b = tiny_onnx(bias=((-4.5, -9.0), (-9.0, -9.0))).rename(tmp_path / "b.onnx")
    lost = verify(a, b, WHITE, Rule(), Gate()).figures
    assert lost.max_score_drop is not None
    assert lost.max_score_drop > 0.01
    assert lost.max_score_drop == lost.max_score_error
    assert lost.mean_score_drop == lost.max_score_drop / 4  # one of four scores fell
    won = verify(b, a, WHITE, Rule(), Gate()).figures
    assert won.mean_score_drop == -lost.mean_score_drop
    assert won.max_score_drop == 0  # the scores of the other three stay


def test_the_worst_frame_is_named(tiny_onnx, tmp_path):
    a = tiny_onnx().rename(tmp_path / "a.onnx")
    b = tiny_onnx(bias=((-4.5, -9.0), (-9.0, -9.0))).rename(tmp_path / "b.onnx")
    frames = [np.full((20, 40, 3), grey, np.uint8) for grey in (255, 160, 200, 180)]
    looks = Looks(frame_names=("255.png", "160.png", "200.png", "180.png"))
    report = verify(a, b, frames, Rule(), Gate(), looks=looks)
    assert report.evidence is not None
    worst = report.evidence.worst_figures
    assert report.to_dict()["worst_frames"] == worst
    assert [frame["frame"] for frame in worst] == ["160.png", "180.png", "200.png"]
    assert report.evidence.frames[1].max_score_error > report.evidence.frames[3].max_score_error
