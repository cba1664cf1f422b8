"""Types by the inspector's words."""

import json
from types import SimpleNamespace

import pytest

from edgedetr.runtime.cuda.layer_types import layer_types


def library(text):
    """A library whose engines are inspected with this result; it cannot load an empty one."""
    inspector = SimpleNamespace(get_engine_information=lambda _: text)
    engine = SimpleNamespace(create_engine_inspector=lambda: inspector)
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda data: engine if data else None)
    return SimpleNamespace(
        Runtime=lambda _: runtime, LayerInformationFormat=SimpleNamespace(JSON=1)
    ), runtime


def tensors(*types, key="Format/Datatype"):
    return [{"Name": "t", key: t} for t in types]


def test_a_layer_counts_once_for_each_type():
    layers = [
        {"Inputs": tensors("Int8", "Int8"), "Outputs": tensors("Half")},
        {"Inputs": tensors("Row major linear FP16 format"), "Outputs": []},
        {"Inputs": tensors("Float", "Int32", key="Datatype"), "Outputs": tensors("Half")},
        "a layer without details",
    ]
    trt, runtime = library(json.dumps({"Layers": layers}))
    assert layer_types(trt, None, b"engine", host_code=False) == {"FP16": 3, "FP32": 1, "INT8": 1}
    assert runtime.engine_host_code_allowed is False


@pytest.mark.parametrize("text", ["{", "[]", '{"Layers": []}', '{"Layers": ["name"]}', "null"])
def test_an_inspector_that_lists_nothing(text):
    trt, _ = library(text)
    assert layer_types(trt, None, b"engine", host_code=True) is None


def test_an_engine_that_does_not_load():
    trt, _ = library("{}")
    assert layer_types(trt, None, b"", host_code=True) is None
