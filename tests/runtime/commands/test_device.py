"""The command on a machine without a GPU, and on fakes of GPU and TensorRT."""

import json
import sys
from importlib import import_module
from types import SimpleNamespace

import pytest

from edgedetr.runtime.commands.device import build_in_process
from edgedetr.runtime.cuda import device
from edgedetr.runtime.cuda.device import CudaDevice
from edgedetr.runtime.device_check.record import read_record
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.manifest import write_manifest
from edgedetr.runtime.spec import ModelSpec


@pytest.fixture
def fakes(install_trt, gpu, monkeypatch):
    """A GPU with a TensorRT whose engines can be inspected."""
    trt = install_trt()
    trt.LayerInformationFormat = SimpleNamespace(JSON=1)
    layers = [{"Inputs": [{"Datatype": "Float"}], "Outputs": []}]
    inspector = SimpleNamespace(get_engine_information=lambda _: json.dumps({"Layers": layers}))
    engine = sys.modules["fake_trt"]._Engine
    monkeypatch.setattr(engine, "create_engine_inspector", lambda _: inspector, raising=False)
    driver = import_module("pycuda.driver")  # the fake or the real one
    monkeypatch.setattr(driver, "mem_get_info", lambda: (gpu.free_bytes, 1 << 28), raising=False)
    monkeypatch.setattr(device, "find_device", lambda: CudaDevice("Orin (fake)", "8.7"))


def test_without_a_gpu_it_is_one_line(edgedetr, tiny_onnx, images, tmp_path, monkeypatch):
    monkeypatch.setattr(device, "find_device", lambda: None)
    out = tmp_path / "check.json"
    status, printed, err = edgedetr("device", "check", tiny_onnx(), "--images", images, "-o", out)
    assert (status, printed) == (1, "")
    assert err == (
        "edgedetr: CUDA finds no GPU here; check the device that the model is for, or rehearse "
        "with --simulate\n"
    )
    assert not out.exists()


def test_an_engine_is_checked(fakes, edgedetr, tiny_engine, tiny_onnx, images, tmp_path):
    del fakes
    engine, out = tiny_engine(), tmp_path / "check.json"
    write_manifest(
        engine,
        kind="engine",
        command="",
        spec=ModelSpec((8, 16), ("Car", "Pedestrian")),
        versions=("tensorrt==10.3.0",),
        parents=[tiny_onnx()],
        targets=("sm_87",),
    )
    command = ("device", "check", engine, "--images", images, "-o", out, "--frames", 4)
    status, printed, err = edgedetr(*command, "--rate", 1000)
    assert (status, err) == (0, "")
    assert printed.startswith("tiny.engine: passed; p50 ")
    found = json.loads(out.read_text())
    assert (found["verdict"], found["fastest"]) == ("passed", "tiny.engine")
    assert found["pace"] == {"frames": 4, "rate_hz": 1000.0}
    assert found["models"][0]["check"]["layers"]["types"] == {"FP32": 1}
    assert found["command"].startswith("edgedetr device check ")


def test_a_rehearsal_is_signed_and_is_no_proof(edgedetr, tiny_onnx, images, tmp_path):
    out, key = tmp_path / "check.json", tmp_path / "device.key"
    assert edgedetr("package", "keygen", key)[0] == 0
    command = ("device", "check", tiny_onnx(), "--images", images, "-o", out, "--frames", 2)
    status, printed, err = edgedetr(*command, "--rate", 1000, "--simulate", "--key", key)
    assert (status, err) == (0, "")
    assert "passed; p50 " in printed
    found, signed_by = read_record(out)
    assert (found.simulated, found.device.name) == (True, "simulated")
    assert len(signed_by) == 64


def test_a_signature_goes_beside_no_input(edgedetr, tiny_onnx, images, tmp_path):
    key = tmp_path / "check.json.sig"
    assert edgedetr("package", "keygen", key)[0] == 0
    command = ("device", "check", tiny_onnx(), "--images", images, "-o", tmp_path / "check.json")
    kept = key.read_bytes()
    assert edgedetr(*command, "--simulate", "--key", key)[0] == 2
    assert key.read_bytes() == kept


@pytest.mark.slow
def test_a_build_that_fails_is_in_the_record(fakes, edgedetr, tiny_onnx, images, tmp_path):
    del fakes
    out = tmp_path / "check.json"
    model = tiny_onnx(store_spec=False)  # no builder takes it
    status, _, err = edgedetr("device", "check", model, "--images", images, "-o", out)
    assert status == 1
    assert "device check failed on Orin (fake); " in err
    found = json.loads(out.read_text())
    assert found["verdict"] == "failed"
    assert "edgedetr export engine ended with status" in found["models"][0]["problems"][0]


@pytest.mark.slow
def test_the_build_is_a_process_of_its_own(tmp_path):
    with pytest.raises(ArtifactError, match=r"no.onnx: edgedetr export engine ended with status"):
        build_in_process(tmp_path / "no.onnx", tmp_path / "no.engine", tmp_path / "timing.cache")
