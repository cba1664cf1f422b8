"""How the activations of two graphs compare, and what fails the gate."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.export.verify.activations import Activations, compare_activations
from edgedetr.export.verify.block_errors import BlockError
from edgedetr.export.verify.compare import verify
from edgedetr.export.verify.difference import Difference
from edgedetr.export.verify.limits import Gate
from edgedetr.export.verify.matching import Rule
from edgedetr.export.verify.runners.onnx import OnnxRunner
from edgedetr.export.verify.scan import Broken, Scan
from edgedetr.graph.exact import Precision
from edgedetr.runtime.spec import ModelSpec

WHITE = 41 * [np.full((20, 40, 3), 255, np.uint8)]
SURE = ((20.0, -9.0), (-9.0, -9.0))  # a logit of 20 or more is a score of 1, whatever is added
ONE_IN_TEN = Gate(lost_share=0.1)


def block(precision, own, limit=0.1):
    return BlockError("neck", precision, 1, "t", Difference(own, 1.0), limit, None)


@pytest.mark.parametrize(
    ("precision", "own", "fails"),
    [
        ("int8", 0.09, False),
        ("int8", 0.11, True),
        ("int8", float("inf"), True),
        ("fp16", 0.11, False),
        ("fp32", 0.11, False),
    ],
)
def test_an_int8_block_that_diverges_is_a_fault_and_others_are_named(precision, own, fails):
    found = Activations(1, (), (block(precision, own),), "")
    assert bool(found.reason) == fails
    assert found.first_diverging == ("neck" if own > 0.1 else "")


def test_the_reasons_name_what_is_wrong_first():
    fine = block("int8", 0.01)
    assert Activations(1, (), (fine,), "").reason == ""
    wrong = BlockError("head", "int8", 1, "t", Difference(0.5, 1.0), 0.1, None)
    broken = Scan("b.onnx", 3, (Broken("mul", "t", 1, 0, 0),))
    found = Activations(1, (broken,), (fine, wrong, block("int8", 0.2)), "")
    assert found.reason == (
        "b.onnx: 1 of 3 activations not finite, first at mul (1 NaN, 0 Inf); "
        f"2 INT8 blocks diverge from their calibration: {wrong.line}"
    )


@pytest.fixture
def pair(tiny_onnx, tmp_path):
    """A tiny model and a copy whose mean passes ``nodes`` before it is amplified."""

    def make(nodes, constants):
        good = tiny_onnx(bias=SURE).rename(tmp_path / "good.onnx")
        model = onnx.load(good)
        graph = model.graph
        at = next(i for i, node in enumerate(graph.node) if node.name == "amplify")
        graph.node[at].input[0] = "passed"
        for node in reversed(nodes):
            graph.node.insert(at, node)
        graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
        )
        onnx.save(model, tmp_path / "other.onnx")
        return good, tmp_path / "other.onnx"

    return make


def quantized(pair, amax):
    """Round the mean, which is 1 in a white image, with a range from ``-amax`` to ``amax``."""
    constants = {"scale": np.float32(amax / 127), "zero_point": np.int8(0)}
    nodes = [
        helper.make_node("QuantizeLinear", ["mean", *constants], ["rounded"], "quantize"),
        helper.make_node("DequantizeLinear", ["rounded", *constants], ["passed"], "dequantize"),
    ]
    return pair(nodes, constants)


def test_an_int8_block_of_the_right_scale_passes(pair):
    good, other = quantized(pair, 1.0)
    report = verify(good, other, WHITE, Rule(), Gate())
    assert report.precisions == ("fp32", "int8")
    assert report.passed, report.reason


def test_a_halved_scale_fails_though_no_detection_is_lost(pair):
    """Half of the range cuts the mean to a half, which these answers do not show."""
    good, other = quantized(pair, 0.5)
    report = verify(good, other, WHITE, Rule(), Gate())
    assert (report.share.lost, report.share.verdict(0.1)) == (0, "passed")
    assert (report.verdict, report.frames_needed) == ("failed", None)
    assert report.reason.startswith("1 INT8 block diverges from its calibration: ")
    assert report.first_diverging in report.reason
    assert "FAILED: 1 INT8 block diverges" in report.table()


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_a_float_block_that_diverges_is_named_and_passes(pair, kind):
    half = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes = [
        helper.make_node("Cast", ["mean"], ["typed"], "down", to=half),
        helper.make_node("Mul", ["typed", "factor"], ["less"], "lessen"),
        helper.make_node("Cast", ["less"], ["passed"], "up", to=TensorProto.FLOAT),
    ]
    good, other = pair(nodes, {"factor": np.array(0.5, kind)})
    report = verify(good, other, WHITE, Rule(), ONE_IN_TEN)
    assert report.precisions[1] == {np.float32: "fp32", np.float16: "fp16"}[kind]
    assert report.first_diverging
    assert report.passed, report.reason
    assert f"first diverging block: {report.first_diverging}" in report.table()


def test_without_frames_or_graphs_nothing_is_compared(tiny_onnx):
    class Opaque:
        precision: Precision = "fp32"
        batch_sizes: tuple[int, ...] = (1,)
        spec = ModelSpec((8, 16), ("Car", "Pedestrian"))

        def __call__(self, images):
            return images, images

    runner = OnnxRunner(tiny_onnx())
    names = ("a", "b")
    assert compare_activations((runner, runner), names, [], []) is None
    assert compare_activations((Opaque(), Opaque()), names, WHITE, WHITE) is None


def test_graphs_without_common_names_are_not_compared(tiny_onnx, tmp_path):
    a = tiny_onnx().rename(tmp_path / "a.onnx")

    def rename(model):
        for node in model.graph.node:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    if name in {"all", "mean", "amplified", "still"}:
                        names[i] = f"other_{name}"

    model = onnx.load(a)
    rename(model)
    b = tmp_path / "b.onnx"
    onnx.save(model, b)
    report = verify(a, b, WHITE[:1], Rule(), Gate())
    assert report.passed
    assert report.activations is not None
    assert not report.activations.blocks
    assert report.activations.note == (
        "blocks not compared: the graphs share 2 tensor names, of 6 and 6"
    )
