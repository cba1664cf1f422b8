"""The types that a network computes in are those of its name."""

import numpy as np
import onnx
import pytest

from edgedetr.export.engine.precision import check_claims, network_precision
from edgedetr.export.to_engine import export_engine
from edgedetr.runtime.errors import GateError


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
    assert network_precision(network).macs == {"FP32": 1, "INT8": 1}


@pytest.mark.parametrize("output", ["net.fp16.engine", "net.int8.engine"])
def test_a_name_that_lies_about_the_types_is_refused(tensorrt, model, tmp_path, output):
    tensorrt()
    kind = output.split(".")[1].upper()
    with pytest.raises(GateError, match=f"is named {kind} and has none: it computes in 1 FP32"):
        export_engine(model(), tmp_path / output)
    assert not (tmp_path / output).exists()
