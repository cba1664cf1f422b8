"""A fake GPU with a TensorRT whose engines can be inspected, and engines beside their ONNX file."""

import json
import sys
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import pytest

from edgedetr.runtime.cuda import device
from edgedetr.runtime.cuda.device import CudaDevice
from edgedetr.runtime.cuda.engine_layers import EngineLayers
from edgedetr.runtime.device_check.agreement import Agreement
from edgedetr.runtime.device_check.measure import EngineCheck
from edgedetr.runtime.device_check.model_check import ModelCheck
from edgedetr.runtime.manifest import write_manifest
from edgedetr.runtime.spec import ModelSpec
from edgedetr.runtime.timing import Latency

LATENCY = Latency(2, 3.0, 4.0, 5.0, 6.0, 7.0)
ENGINE_LAYERS = EngineLayers({"INT8": 3, "FP16": 1}, {"INT8": 2}, ("conv",), (), 1, 0)
SPEC = ModelSpec((8, 16), ("Car", "Pedestrian"))
LAYERS = [
    {"Name": "conv", "Inputs": [{"Format/Datatype": "Half"}], "Outputs": [{"Datatype": "Float"}]},
    {"Name": "add", "Inputs": [{"Format/Datatype": "Float"}], "Outputs": []},
]


@pytest.fixture
def model_check():
    """Make what came of a model that may ship, of the precision that its name says."""

    def make(name, p99_ms=5.0, precision=None):
        precision = name if precision is None else precision
        layers = ENGINE_LAYERS if precision in {"", "int8"} else None
        paced, agreed = replace(LATENCY, p99_ms=p99_ms), Agreement(2, 3, 0)
        check = EngineCheck(
            "tensorrt 10.3.0, Orin", layers, True, False, 9.5, LATENCY, paced, 1, agreed
        )
        return ModelCheck(name, "a", precision, None, (), check)

    return make


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
