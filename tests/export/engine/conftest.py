"""A machine with a GPU and a fake of TensorRT, and a small model to build."""

import runpy
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgedetr.runtime.spec import METADATA_KEY, ModelSpec

SPEC = ModelSpec((4, 4), ("Car",))


@pytest.fixture(scope="session")
def fake_tensorrt():
    """`fake_tensorrt` of the file of that name."""
    return runpy.run_path(str(Path(__file__).with_name("fake_tensorrt.py")))["fake_tensorrt"]


@pytest.fixture
def tensorrt(monkeypatch, fake_tensorrt, orin):  # noqa: ARG001 - the machine it is on
    """Installs a fake; returns the record of what it is asked for."""

    def install(version="10.3.0", **how):
        trt, seen = fake_tensorrt(version, **how)
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
        return seen

    return install


@pytest.fixture
def model(onnx_model, tmp_path):
    """Writes a Relu and a convolution, which is in FP16 between two casts with ``half``."""

    def write(name="net.onnx", batch=1, half=False):
        built = onnx_model(
            [("Relu", "first", ["images"], "x", {}), ("Conv", "conv", ["x", "w"], "y", {})],
            {"w": np.ones((2, 3, 1, 1))},
            inputs={"images": (batch, 3, 4, 4)},
            outputs=["y"],
            classes=1,
        )
        onnx.helper.set_model_props(built, {METADATA_KEY: SPEC.to_json()})
        if half:
            make_half(built)
        path = tmp_path / name
        onnx.save(built, path)
        return path

    return write


def make_half(model):
    """Cast to FP16 before the convolution and back behind it."""
    graph, half, full = model.graph, onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    weights = onnx.numpy_helper.to_array(graph.initializer[0]).astype(np.float16)
    graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "w"))
    first, conv = graph.node
    first.output[0], conv.output[0] = "x32", "y16"
    narrow = onnx.helper.make_node("Cast", ["x32"], ["x"], "narrow", to=half)
    widen = onnx.helper.make_node("Cast", ["y16"], ["y"], "widen", to=full)
    nodes = [first, narrow, conv, widen]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del graph.node[:]
    graph.node.extend(copies)
