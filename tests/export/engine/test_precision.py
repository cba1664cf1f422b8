"""The types that a network computes in are those of its name."""

import numpy as np
import onnx
import pytest

from edgedetr.export.engine.precision import check_claims, network_precision
from edgedetr.export.to_engine import export_engine
from edgedetr.runtime.errors import GateError
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec


def test_a_graph_that_is_called_fp16_and_is_fp32_is_refused():
    with pytest.raises(GateError, match=r"m\.fp16\.onnx is named FP16 and has none: .* 3 FP32;"):
        check_claims({"FP16"}, {"FP32": 3}, "m.fp16.onnx")
    check_claims({"FP16"}, {"FP32": 3, "FP16": 1}, "m.fp16.onnx")


def test_int8_is_what_reads_int8_on_both_sides(onnx_model, tmp_path):
    """Weights in INT8 alone are no INT8 kernel."""
    trt = pytest.importorskip("tensorrt_rtx")

    model = onnx_model(
        [
            ("QuantizeLinear", "q", ["images", "s", "z"], "i", {}),
            ("DequantizeLinear", "dq", ["i", "s", "z"], "x", {}),
            ("DequantizeLinear", "dw", ["w", "s", "z"], "v", {}),
            ("Conv", "both", ["x", "v"], "a", {}),
            ("Conv", "weights", ["images", "v"], "b", {}),
            ("Add", "sum", ["a", "b"], "y", {}),
        ],
        {"s": 0.5, "z": np.int8(0), "w": np.ones((2, 3, 1, 1), np.int8)},
        inputs={"images": (1, 3, 8, 16)},
        outputs=["y"],
    )
    onnx.save(model, tmp_path / "m.onnx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(tmp_path / "m.onnx"))
    found = network_precision(network)
    assert found.macs == {"FP32": 1, "INT8": 1}
    assert found.int8 == ("both",)


@pytest.mark.parametrize("output", ["net.fp16.engine", "net.int8.engine"])
def test_a_name_that_lies_about_the_types_is_refused(tensorrt, model, tmp_path, output):
    tensorrt()
    kind = output.split(".")[1].upper()
    with pytest.raises(GateError, match=f"is named {kind} and has none: it computes in 1 FP32"):
        export_engine(model(), tmp_path / output)
    assert not (tmp_path / output).exists()


def convolution(read, name="conv"):
    tensors = {"Inputs": [{"Format/Datatype": read}], "Outputs": [{"Format/Datatype": "Half"}]}
    return {"LayerType": "CaskConvolution", "Name": f"w + {name} + relu", **tensors}


def test_an_engine_that_computes_in_nothing_of_its_name_is_refused(tensorrt, model, tmp_path):
    seen = tensorrt()
    seen.inspected = [convolution("Float")]
    path = model("net.fp16.onnx", half=True)
    with pytest.raises(GateError, match=r"the engine of net\.fp16\.onnx is named FP16 and"):
        export_engine(path, tmp_path / "net.engine")
    assert not (tmp_path / "net.engine").exists()
    seen.inspected = [convolution("Half")]
    layers = export_engine(path, tmp_path / "net.engine").layers
    assert layers
    assert layers.products == {"FP16": 1}


@pytest.fixture
def quantized(onnx_model, tmp_path):
    """A file with two INT8 convolutions, and a spec."""
    model = onnx_model(
        [
            ("QuantizeLinear", "q", ["images", "s", "z"], "i", {}),
            ("DequantizeLinear", "dq", ["i", "s", "z"], "x", {}),
            ("DequantizeLinear", "dw", ["w", "s", "z"], "v", {}),
            ("Conv", "first", ["x", "v"], "a", {}),
            ("Conv", "second", ["x", "v"], "b", {}),
            ("Add", "sum", ["a", "b"], "y", {}),
        ],
        {"s": 0.5, "z": np.int8(0), "w": np.ones((2, 3, 1, 1), np.int8)},
        inputs={"images": (1, 3, 4, 4)},
        outputs=["y"],
        classes=1,
    )
    onnx.helper.set_model_props(model, {METADATA_KEY: ModelSpec((4, 4), ("Car",)).to_json()})
    onnx.save(model, tmp_path / "net.int8.onnx")
    return tmp_path / "net.int8.onnx"


def test_int8_of_the_graph_that_the_engine_computes_in_fp16_is_noted(tensorrt, quantized, tmp_path):
    seen = tensorrt()
    seen.inspected = [convolution("Int8", "first"), convolution("Half", "second")]
    report = export_engine(quantized, tmp_path / "net.engine")
    assert report.precision.macs == {"INT8": 2}
    assert [note for note in report.notes if "INT8" in note] == [
        "the engine does not compute 1 of 2 INT8 products of the graph in INT8: second; "
        "export qdq --exclude takes them out"
    ]
    seen.inspected = [convolution("Int8", "first"), convolution("Int8", "second")]
    assert not [n for n in export_engine(quantized, tmp_path / "net.engine").notes if "INT8" in n]
