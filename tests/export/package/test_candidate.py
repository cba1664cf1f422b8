"""Models are whole, what their manifest says, and of the precision that their graph has."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.export.package.candidate import precision_for_gates
from edgedetr.graph.sampling_plugin import DOMAIN, PLUGIN, define_plugin
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.manifest import write_manifest
from edgedetr.runtime.spec import ModelSpec


def test_a_manifest_that_does_not_fit(refuses, fp32, int8, report, stats):
    model = onnx.load(int8)
    model.doc_string = "changed"
    onnx.save(model, int8)
    given = {"parity": (report(fp32, int8),), "calibration": stats}
    refuses("does not match its manifest", [int8, fp32], error=ArtifactError, **given)
    spec = ModelSpec((8, 16), ("Car", "Cyclist"))
    write_manifest(int8, kind="qdq", command="", spec=spec, parents=[fp32, stats])
    refuses(r"the spec in .*manifest\.json is not that of", [int8, fp32], **given)


def test_a_spec_that_differs_from_the_model_s_own(refuses, fp32):
    spec = ModelSpec((8, 16), ("Car", "Cyclist"))
    refuses("carries a spec that differs from --spec", [fp32], error=UsageError, spec=spec)


def test_damaged_models(refuses, fp32, tmp_path):
    refuses(r"none\.onnx is missing", [tmp_path / "none.onnx"], error=ArtifactError)
    fp32.write_bytes(fp32.read_bytes()[:200])
    refuses("not a whole ONNX model", [fp32], error=ArtifactError)


def test_the_precision_of_a_graph(onnx_model, fp32, int8):
    assert precision_for_gates(onnx.load(fp32)) == "fp32"
    assert precision_for_gates(onnx.load(int8)) == "int8"
    half = [("Cast", "c", ["x"], "h", {"to": TensorProto.FLOAT16})]
    half += [("Cast", "d", ["h"], "y", {"to": TensorProto.FLOAT})]
    assert precision_for_gates(onnx_model(half, {}, inputs={"x": (1,)}, outputs=["y"])) == "fp16"
    constant = [("Cast", "d", ["h"], "y", {"to": TensorProto.FLOAT})]
    numbers = {"h": np.zeros(1, np.float16)}
    assert precision_for_gates(onnx_model(constant, numbers, inputs={}, outputs=["y"])) == "fp16"
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["a", "b", "c"])
    assert precision_for_gates(helper.make_model(helper.make_graph([node], "g", [], []))) == "int8"


def test_a_plugin_is_what_its_function_is():
    reads = ["value", "shapes", "starts", "places", "weights"]
    node = helper.make_node(PLUGIN, reads, ["y"], domain=DOMAIN)
    imports = [helper.make_opsetid("", 17)]
    model = helper.make_model(helper.make_graph([node], "g", [], []), opset_imports=imports)
    assert precision_for_gates(model) == "int8"
    define_plugin(model)
    assert precision_for_gates(model) == "fp32"


def of_few_bits(kind):
    """A product with weights of sixteen levels, stored in one of several ways."""
    weights = np.arange(1024).reshape(32, 32) % 16
    product: tuple[object, ...] = ("MatMul", "head", ["x", "v"], "y", {})
    cast = ("Cast", "cast", ["w"], "v", {"to": TensorProto.FLOAT})
    moved = [("Reshape", "r", ["w", "s"], "u", {}), (*cast[:2], ["u"], *cast[3:])]
    nodes, w = {
        "uint8": ([cast, product], weights.astype(np.uint8)),
        "int32": ([cast, product], weights.astype(np.int32)),
        "int64, moved": ([*moved, product], weights.reshape(-1).astype(np.int64)),
        "shifted": (
            [("BitShift", "b", ["w", "by"], "u", {"direction": "RIGHT"}), moved[1], product],
            weights.astype(np.uint64),
        ),
    }[kind]
    constants = {"w": w, "s": np.array([32, 32]), "by": np.uint64(4)}
    return nodes, constants


@pytest.mark.parametrize("kind", ["uint8", "int32", "int64, moved", "shifted"])
def test_weights_of_few_bits_are_not_fp32(kind, onnx_model):
    nodes, constants = of_few_bits(kind)
    model = onnx_model(nodes, constants, inputs={"x": (1, 32)}, outputs=["y"])
    assert precision_for_gates(model) == "int8"


def test_an_operator_of_another_domain_is_not_fp32(fp32, refuses):
    """MatMulNBits holds weights of four bits in bytes."""
    model = onnx.load(fp32)
    node = helper.make_node("MatMulNBits", ["a", "b", "c"], ["d"], domain="com.microsoft")
    assert precision_for_gates(helper.make_model(helper.make_graph([node], "g", [], []))) == "int8"
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 2), np.uint8), "packed"))
    onnx.save(model, fp32)
    refuses(r"m\.onnx is int8 and has no report", [fp32], references=())


def test_whole_numbers_that_are_no_weights_leave_fp32(onnx_model):
    nodes = [
        ("Gather", "rows", ["x", "rows"], "g", {"axis": 1}),
        ("Cast", "size", ["two"], "f", {"to": TensorProto.FLOAT}),
        ("Mul", "twice", ["g", "f"], "y", {}),
    ]
    constants = {"rows": np.arange(512) % 32, "two": np.array([2])}
    model = onnx_model(nodes, constants, inputs={"x": (1, 32)}, outputs=["y"])
    assert precision_for_gates(model) == "fp32"
