"""A model is held to its spec by its graph and by its numbers."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgedetr.graph.contract import activation_before, check_contract, check_declared, outputs_of
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

SPEC = ModelSpec((8, 16), ("Car", "Pedestrian"))


def test_a_model_that_keeps_its_contract_says_its_batch(tiny_onnx):
    path = tiny_onnx(batch=2)
    assert check_contract(onnx.load(path), SPEC, path) == 2
    path = tiny_onnx(batch="batch")
    assert check_declared(onnx.load(path), SPEC, path) == 1


@pytest.mark.parametrize(
    "spec", [ModelSpec((8, 32), ("Car", "Pedestrian")), ModelSpec((8, 16), ("Car",))]
)
def test_another_size_or_number_of_classes_is_refused(tiny_onnx, spec):
    path = tiny_onnx()
    with pytest.raises(ArtifactError, match=r"tiny\.onnx"):
        check_contract(onnx.load(path), spec, path)


def test_a_weight_that_is_no_number_is_named(tiny_onnx):
    path = tiny_onnx()
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[-1] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(ArtifactError, match=f"the constant {tensor.name} holds NaN; its training"):
        check_contract(model, SPEC, path)


def test_scores_that_are_called_logits_are_refused(onnx_model, tmp_path):
    nodes = [
        ("ReduceMean", "pool", ["images"], "mean", {"axes": [1, 2, 3], "keepdims": 1}),
        ("Reshape", "one", ["mean", "shape"], "one", {}),
        ("Mul", "spread", ["one", "gain"], "wide", {}),
        ("Sigmoid", "score", ["wide"], "logits", {}),
        ("Add", "place", ["zeros", "at"], "boxes", {}),
    ]
    constants = {
        "shape": [1, 1, 1],
        "gain": [[[1.0, -1.0]]],
        "zeros": [[[0.0] * 4]],
        "at": [[[0.5] * 4]],
    }
    inputs = {"images": (1, 3, 8, 16)}
    model = onnx_model(nodes, constants, inputs=inputs, outputs=["logits", "boxes"])
    assert activation_before(model, "logits") == "Sigmoid"
    assert activation_before(model, "boxes") == ""
    with pytest.raises(ArtifactError):
        check_contract(model, SPEC, tmp_path / "net.onnx")


def test_answers_are_all_outputs_by_name(tiny_onnx):
    path = tiny_onnx(bias=((-4.0, -9.0),), boxes=((0.5, 0.5, 0.5, 0.5),))
    answers = outputs_of(onnx.load(path), SPEC, path)
    assert {name: a.shape for name, a in answers.items()} == {
        "logits": (1, 1, 2),
        "boxes": (1, 1, 4),
    }
    assert answers["boxes"].tolist() == [[[0.5] * 4]]
