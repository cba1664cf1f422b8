"""Engines for a Jetson's DLA, and why there is none, with fakes of TensorRT."""

import pytest

from edgedetr.export.engine.dla import check_dla
from edgedetr.export.engine.options import EngineOptions
from edgedetr.export.engine.precision import Precision
from edgedetr.export.to_engine import export_engine
from edgedetr.runtime.errors import UsageError

DLA = EngineOptions(dla=True)


@pytest.mark.parametrize("version", ["10.3.0", "11.0.0"])
def test_what_it_can_run_is_placed_there_and_the_rest_on_the_gpu(
    tensorrt, model, tmp_path, version
):
    seen = tensorrt(version)
    seen.dla_cores = 2
    export_engine(model(half=True), tmp_path / "net.engine", DLA)
    assert seen.config.default_device_type.name == "DLA"
    assert seen.config.DLA_core == 0
    assert "GPU_FALLBACK" in seen.flags


def test_engines_are_for_the_gpu_by_default(tensorrt, model, tmp_path):
    seen = tensorrt()
    seen.dla_cores = 2
    export_engine(model(half=True), tmp_path / "net.engine")
    assert "GPU_FALLBACK" not in seen.flags


def test_a_machine_without_one(tensorrt, model, tmp_path):
    tensorrt()
    wanted = r"tensorrt==10\.3\.0 finds no DLA on this machine .*; leave out --dla"
    with pytest.raises(UsageError, match=wanted):
        export_engine(model(half=True), tmp_path / "net.engine", DLA)
    assert not (tmp_path / "net.engine").exists()


def test_it_computes_in_fp16_alone(tensorrt, model, tmp_path):
    seen = tensorrt()
    seen.dla_cores = 1
    with pytest.raises(UsageError, match=r"net\.onnx multiplies nothing in FP16, .* export fp16"):
        export_engine(model(), tmp_path / "net.engine", DLA)
    quantized = Precision({"INT8": 1, "FP16": 3}, {}, ("conv",))
    builder = type("Builder", (), {"num_DLA_cores": seen.dla_cores})
    with pytest.raises(UsageError, match="INT8 by quantizers in its graph, which no DLA takes"):
        check_dla(builder, "tensorrt==10.3.0", quantized, tmp_path / "net.onnx")


def test_options_that_do_not_go_together():
    with pytest.raises(UsageError, match="a DLA takes no dynamic batch; leave out --dla, or"):
        EngineOptions(dla=True, batch=(1, 2, 4))
