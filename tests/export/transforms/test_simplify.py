import sys

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgedetr.export.transforms.simplify import COMMAND, largest_difference, simplify
from edgedetr.graph.sampling_plugin import DOMAIN, PLUGIN, define_plugin, is_defined

COPY = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])"
EDIT = "import sys, onnx; m = onnx.load(sys.argv[1]); {}; onnx.save(m, sys.argv[2])"


def python(script):
    return [sys.executable, "-c", script]


@pytest.fixture
def model(onnx_model):
    """Two queries: logits (1, 2, 1), boxes (1, 2, 4); which table of corners is computed."""
    return onnx_model(
        [
            ("Sub", "/net/index", ["one", "one"], "zero", {}),
            ("Gather", "/net/pick", ["tables", "zero"], "corners", {"axis": 0}),
            ("ReduceSum", "/net/sum", ["images", "last"], "rows", {"keepdims": 0}),
            ("MatMul", "/net/fc/MatMul", ["rows", "w"], "product", {}),
            ("Add", "/net/fc/Add", ["product", "bias"], "logits", {}),
            ("Mul", "/net/place", ["logits", "corners"], "boxes", {}),
        ],
        {
            "bias": np.array([0.25]),
            "one": np.array(1),
            "last": np.array([3]),
            "w": np.array([[0.5], [-1.0]]),
            "tables": np.array([[[[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]]]]),
        },
        inputs={"images": (1, 2, 2, 3)},
        outputs=["logits", "boxes"],
    )


@pytest.mark.slow
def test_constants_are_folded_and_names_stay(model):
    before = model.SerializeToString()
    result = simplify(model)
    assert result.problem == ""
    assert model.SerializeToString() == before
    names = [n.name for n in result.model.graph.node]
    assert set(names) <= {n.name for n in model.graph.node} - {"/net/index", "/net/pick"}
    # a Gemm in place of the two would have no name of the network
    assert {"/net/fc/MatMul", "/net/fc/Add"} <= set(names)
    assert largest_difference(model, result.model) < 1e-6


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("import os; os.abort()", "it ended with status -6: it said nothing"),
        ("raise SystemExit('a\\nno such operator')", "it ended with status 1: no such operator"),
        ("pass", "it wrote no whole model"),
        ("import sys; open(sys.argv[2], 'wb').write(b'\\xff' * 9)", "it wrote no whole model"),
        (EDIT.format("m.graph.node[1].op_type = 'Sum of it'"), "it wrote no whole model"),
        (EDIT.format("m.opset_import[0].version = 18"), "needs the opsets {'': 18} instead of"),
        (
            EDIT.format("m.graph.initializer[0].raw_data = b'\\0\\0\\x80\\x3f'"),
            "its outputs differ by 0.75",  # the bias is 1 instead of 0.25
        ),
        (
            EDIT.format("m.graph.initializer[0].raw_data = b'\\0\\0\\xc0\\x7f'"),
            "its outputs differ by nan",
        ),
        (EDIT.format("m.graph.node[0].op_type = 'Add'"), "does not run"),
    ],
)
def test_a_simplifier_that_fails_is_gone_on_without(model, script, problem):
    result = simplify(model, command=python(script))
    assert result.model is model
    assert problem in result.problem
    assert "\n" not in result.problem


def test_a_function_that_a_simplifier_drops_comes_back(model):
    sizes = {"value": (1, 4, 1, 1), "places": (1, 1, 1, 1, 1, 2), "weights": (1, 1, 1, 1, 1)}
    constants = {name: np.ones(size, np.float32) for name, size in sizes.items()}
    constants |= {"sides": np.array([[2, 2]], np.int32), "starts": np.zeros(1, np.int32)}
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in constants.items())
    reads = ["value", "sides", "starts", "places", "weights"]
    model.graph.node.append(helper.make_node(PLUGIN, reads, ["beside"], domain=DOMAIN))
    define_plugin(model)
    result = simplify(model, command=python(EDIT.format("del m.functions[:]")))
    assert result.problem == ""
    assert is_defined(result.model)


def test_a_simplifier_that_never_ends_is_stopped(model):
    result = simplify(model, time_limit_s=0.3, command=python("import time; time.sleep(60)"))
    assert result.model is model
    assert result.problem == "it was not done after 0.3 s"


def test_a_faithful_copy_is_taken(model):
    result = simplify(model, command=python(COPY))
    assert result.problem == ""
    assert result.model is not model


def test_the_order_of_queries_is_no_difference(model):
    swapped = onnx.ModelProto()
    swapped.CopyFrom(model)
    graph = swapped.graph
    for name in ("logits", "boxes"):
        for node in graph.node:
            for index, made in enumerate(node.output):
                if made == name:
                    node.output[index] = f"{name}_before"
            for index, read in enumerate(node.input):
                if read == name:
                    node.input[index] = f"{name}_before"
        graph.node.append(
            onnx.helper.make_node("Gather", [f"{name}_before", "order"], [name], axis=1)
        )
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 0]), "order"))
    assert largest_difference(model, swapped) == 0


def test_the_command_is_this_python():
    assert COMMAND[0] == sys.executable
