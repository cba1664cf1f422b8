"""Engines that tensorrt_rtx builds for real, which needs no GPU."""

import numpy as np
import onnx
import pytest

pytest.importorskip("tensorrt_rtx")

from edgedetr.export.engine.options import EngineOptions
from edgedetr.export.to_engine import export_engine
from edgedetr.graph.metadata import set_metadata
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.manifest import manifest_path
from edgedetr.runtime.plugins import names
from edgedetr.runtime.spec import ModelSpec

SPEC = ModelSpec((8, 16), ("Car", "Pedestrian"))


def test_a_graph_for_cpus_is_refused(tiny_onnx, tmp_path):
    path = tiny_onnx()
    model = onnx.load(path)
    set_metadata(model, SPEC, (), "openvino")
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match=r"quantized for openvino.*export qdq --for tensorrt"):
        export_engine(path, tmp_path / "tiny.engine", backend="tensorrt_rtx")


def test_a_failed_build_leaves_the_log_and_the_engine_of_before(onnx_model, tmp_path):
    """GPUs of 7.5 multiply no FP32 matrices in tensorrt_rtx."""
    model = onnx_model(
        [("MatMul", "/head/MatMul", ["images", "w"], "y", {})],
        {"w": np.ones((16, 16))},
        inputs={"images": (1, 3, 8, 16)},
        outputs=["y"],
        spec=ModelSpec((8, 16), ("Car",)),
        classes=1,
    )
    path, output = tmp_path / "net.onnx", tmp_path / "net.engine"
    onnx.save(model, path)
    output.write_bytes(b"before")
    with pytest.raises(ArtifactError, match=r"cannot build .*/head/MatMul.*Turing") as caught:
        export_engine(path, output, EngineOptions(compute_capabilities=("7.5",)))
    assert "\n" not in str(caught.value)
    assert output.read_bytes() == b"before"
    assert not manifest_path(output).exists()
    assert "ERROR: " in (tmp_path / "net.engine.log").read_text(encoding="utf-8")


def engine(model, tmp_path):
    return export_engine(model, tmp_path / f"{model.stem}.engine", backend="tensorrt_rtx")


@pytest.mark.slow
@pytest.mark.parametrize("family", names("edgedetr.distill.detectors"))
def test_every_family_becomes_engines_of_fp16_and_int8(family, family_files, tmp_path):
    files = family_files(family)
    halved = engine(files.fp16, tmp_path).precision.macs
    quantized = engine(files.int8_fp16, tmp_path).precision.macs
    layers = sum(halved.values())
    assert halved["FP16"] >= 0.95 * layers
    assert quantized["INT8"] == files.share.nodes >= 10
    assert quantized.get("FP32", 0) <= 0.05 * layers


@pytest.mark.slow
@pytest.mark.parametrize("family", ["d_fine", "faster_rcnn"])
def test_weights_of_an_engine_shrink_with_their_type(family, family_files, tmp_path):
    files = family_files(family)
    models = (files.fp32, files.fp16, files.int8_fp16)
    reports = [engine(model, tmp_path) for model in models]
    full, halved, _ = (report.precision.macs for report in reports)
    assert full == {"FP32": sum(halved.values())}
    weights = [report.weights_mib or 0 for report in reports]
    assert weights[0] / weights[1] > 1.8
    assert weights[0] / weights[2] > 1.5  # INT8 weights of few channels are padded
