"""A fake GPU with a TensorRT whose engines can be inspected, and engines beside their ONNX file."""

import json
import sys
from importlib import import_module
from types import SimpleNamespace

import pytest

from edgedetr.runtime.cuda import device
from edgedetr.runtime.cuda.device import CudaDevice
from edgedetr.runtime.manifest import write_manifest
from edgedetr.runtime.spec import ModelSpec

SPEC = ModelSpec((8, 16), ("Car", "Pedestrian"))
LAYERS = [
    {"Name": "conv", "Inputs": [{"Format/Datatype": "Half"}], "Outputs": [{"Datatype": "Float"}]},
    {"Name": "add", "Inputs": [{"Format/Datatype": "Float"}], "Outputs": []},
]


@pytest.fixture
def inspected(install_trt, gpu, monkeypatch):
    """Install TensorRT with an inspector on the GPU; returns the list of layers that it names."""
    layers = list(LAYERS)
    trt = install_trt()
    trt.LayerInformationFormat = SimpleNamespace(JSON=1)
    inspector = SimpleNamespace(get_engine_information=lambda _: json.dumps({"Layers": layers}))
    engine = sys.modules["fake_trt"]._Engine
    monkeypatch.setattr(engine, "create_engine_inspector", lambda _: inspector, raising=False)
    total = gpu.free_bytes
    driver = import_module("pycuda.driver")  # the fake or the real one
    monkeypatch.setattr(driver, "mem_get_info", lambda: (gpu.free_bytes, total), raising=False)
    return layers


@pytest.fixture
def found_device(monkeypatch):
    """The GPU as the driver's library names it."""
    made = CudaDevice("Orin (fake)", "8.7")
    monkeypatch.setattr(device, "find_device", lambda: made)
    return made


@pytest.fixture
def engine_beside_onnx(tiny_onnx, tiny_engine):
    """Write an engine beside the ONNX file that its manifest names; returns both."""

    def write(**changes):
        engine, onnx = tiny_engine(**changes), tiny_onnx()
        write_manifest(
            engine,
            kind="engine",
            command="",
            spec=SPEC,
            versions=("edgedetr==0.1.0", "tensorrt==10.3.0"),
            parents=[onnx],
            targets=("sm_87",),
        )
        return engine, onnx

    return write
