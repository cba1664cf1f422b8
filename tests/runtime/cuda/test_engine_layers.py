"""Types by the inspector's words."""

import json
from types import SimpleNamespace

import pytest

from edgedetr.runtime.cuda.engine_layers import EngineLayers, engine_layers


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
    found = engine_layers(trt, None, b"engine", host_code=False)
    assert found
    assert found.types == {"FP16": 3, "FP32": 1, "INT8": 1}
    assert (found.products, found.computes_in) == ({}, found.types)
    assert found.describe() == "3 FP16, 1 FP32, 1 INT8"
    assert runtime.engine_host_code_allowed is False


@pytest.mark.parametrize("text", ["{", "[]", '{"Layers": []}', '{"Layers": ["name"]}', "null"])
def test_an_inspector_that_lists_nothing(text):
    trt, _ = library(text)
    assert engine_layers(trt, None, b"engine", host_code=True) is None


def test_an_engine_that_does_not_load():
    trt, _ = library("{}")
    assert engine_layers(trt, None, b"", host_code=True) is None


def layer(kind, read, wrote, **fields):
    return {"LayerType": kind, "Inputs": tensors(*read), "Outputs": tensors(wrote), **fields}


def test_products_reformats_and_what_is_left_over():
    eight, half = "Thirty-two wide channel vectorized row major Int8 format", "Half"
    layers = [
        layer("Reformat", ["Float"], half, Name="Reformatting CopyNode", Origin="REFORMAT"),
        layer("Reformat", [half], eight, Name="/Q_x", Origin="QDQ"),
        layer("CaskConvolution", [eight], eight, Name="W + /Q_w + /a/Conv + /relu/Relu"),
        layer("CaskConvolution", [eight, half], half, Name="x", Metadata="[ONNX Layer: /b/Conv]"),
        layer("CaskConvolution", [half], half, Name="/c/Conv"),
        layer("gemm", ["Float", "Float"], "Float", Name="__myl_Fc", Metadata="[ONNX Layer: /fc]"),
        layer("kgen", [eight], half, Name="__myl_Mul", Metadata="[ONNX Layer: /d/Conv]"),
        layer("CaskConvolution", ["Int32"], "Int32", Name="of what has no type of ours"),
    ]
    trt, _ = library(json.dumps({"Layers": layers}))
    found = engine_layers(trt, None, b"engine", host_code=True)
    assert found
    assert found.products == {"INT8": 2, "FP16": 1, "FP32": 1}
    assert found.computes_in == found.products
    assert (found.reformats, found.quantizers) == (1, 1)
    assert {"/a/Conv", "/b/Conv"} <= {*found.int8}
    assert found.lost_int8(["/a/Conv", "/b/Conv", "/c/Conv", "/d/Conv"]) == ["/c/Conv"]
    assert found.describe() == (
        "5 FP16, 4 INT8, 2 FP32; products: 2 INT8, 1 FP16, 1 FP32; 1 reformat, 1 quantizer "
        "left over"
    )


def test_plugins_are_counted():
    layers = [
        layer("PluginV2", ["Float"], "Float", Name="/attention", PluginType="of_TensorRT"),
        layer("PluginV3", ["Float"], "Float", Name="/another"),
        layer("gemm", ["Half", "Half"], "Half", Name="/fc"),
    ]
    trt, _ = library(json.dumps({"Layers": layers}))
    found = engine_layers(trt, None, b"engine", host_code=True)
    assert found
    assert found.plugins == 2
    assert found.describe().startswith("2 FP32, 1 FP16; 2 plugins; products: 1 FP16; ")


def test_a_node_that_two_layers_share_is_not_lost():
    found = EngineLayers({"INT8": 1}, {"INT8": 1}, ("a",), ("a", "b"), reformats=0, quantizers=0)
    assert found.lost_int8(["a"]) == []
