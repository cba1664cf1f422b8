"""Engines are run by TensorRT's API, of which a fake stands in here."""

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from edgedetr.export import engine_runner
from edgedetr.export.matching import Rule
from edgedetr.export.parity import Gate, Looks, verify
from edgedetr.export.runners import OnnxRunner
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.manifest import write_manifest
from edgedetr.runtime.spec import ModelSpec

WHITE = [np.full((20, 40, 3), 255, np.uint8)]
SPEC = ModelSpec((8, 16), ("Car", "Pedestrian"))


class Tensor:
    """A buffer of a GPU that is this machine's memory."""

    def __init__(self, values):
        self.values = values

    def cuda(self):
        return Tensor(self.values.copy())

    cpu = cuda

    def numpy(self):
        return self.values

    def data_ptr(self):
        return self.values.ctypes.data


class Context:
    """Answers by an ONNX file, from and to the addresses that it was given."""

    def __init__(self, model):
        self.runner, self.shapes, self.addresses = OnnxRunner(Path(model)), {}, {}

    def set_input_shape(self, name, shape):
        self.shapes = {name: shape, "logits": (shape[0], 2, 2), "boxes": (shape[0], 2, 4)}
        return name == "images"

    def get_tensor_shape(self, name):
        return self.shapes[name]

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        assert stream == 7
        arrays = {
            name: np.ctypeslib.as_array(
                ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), self.shapes[name]
            )
            for name, address in self.addresses.items()
        }
        arrays["logits"][:], arrays["boxes"][:] = self.runner(arrays["images"])
        return True


@pytest.fixture
def gpu(monkeypatch):
    """A torch with a GPU, and a TensorRT that takes an engine that names an ONNX file."""
    stream = SimpleNamespace(cuda_stream=7, synchronize=lambda: None)
    torch = SimpleNamespace(
        from_numpy=Tensor,
        float32=np.float32,
        empty=lambda shape, dtype, **_: Tensor(np.full(shape, np.nan, dtype)),
        cuda=SimpleNamespace(is_available=lambda: True, current_stream=lambda: stream),
    )

    def deserialize(data):
        if not data.startswith(b"engine of "):
            return None
        return SimpleNamespace(
            create_execution_context=lambda: Context(data.decode().removeprefix("engine of ")),
            get_tensor_profile_shape=lambda _name, _profile: ((1, 3, 8, 16),) * 3,
        )

    logger = type("Logger", (), {"ERROR": 1, "__init__": lambda *_: None})
    library = SimpleNamespace(
        Logger=logger,
        Runtime=lambda _logger: SimpleNamespace(deserialize_cuda_engine=deserialize),
        __version__="11.0",
    )
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.setitem(sys.modules, "torch", torch)


@pytest.fixture
def engine(tiny_onnx, tmp_path):
    """An engine of the tiny model, with its manifest."""

    model = tiny_onnx().rename(tmp_path / "model.onnx")
    path = tmp_path / "model.engine"
    path.write_text(f"engine of {model}")
    write_manifest(path, kind="engine", command="x", spec=SPEC, parents=[model])
    return path


@pytest.mark.usefixtures("gpu")
def test_an_engine_answers_as_its_onnx_file(engine):
    report = verify(engine.with_name("model.onnx"), engine, WHITE, Rule(), Gate())
    assert report.passed, report.reason
    assert report.figures.matched == 1
    assert report.activations.note.endswith("model.engine was not read as a graph")
    assert report.precisions == ("fp32", "fp32")


@pytest.mark.usefixtures("gpu")
def test_an_engine_has_the_precision_of_its_onnx_file(engine):
    model = onnx.load(engine.with_name("model.onnx"))
    half = onnx.helper.make_node("Cast", ["mean"], ["m"], "half", to=onnx.TensorProto.FLOAT16)
    model.graph.node.append(half)
    onnx.save(model, engine.with_name("model.onnx"))
    assert engine_runner.EngineRunner(engine).precision == "fp16"
    engine.with_name("model.onnx").rename(engine.with_name("other.onnx"))
    engine.write_text(f"engine of {engine.with_name('other.onnx')}")
    write_manifest(engine, kind="engine", command="x", spec=SPEC)
    assert engine_runner.EngineRunner(engine).precision == "fp32"


@pytest.mark.usefixtures("gpu")
def test_an_engine_without_a_manifest_needs_a_spec(engine):
    (engine.parent / "model.engine.manifest.json").unlink()
    model = engine.with_name("model.onnx")
    with pytest.raises(ArtifactError, match="has no manifest beside it"):
        verify(model, engine, WHITE, Rule(), Gate())
    assert verify(model, engine, WHITE, Rule(), Gate(), looks=Looks(SPEC)).passed


@pytest.mark.usefixtures("gpu")
def test_an_engine_that_nothing_takes_is_refused(engine):
    engine.write_bytes(b"another version")
    write_manifest(engine, kind="engine", command="x", spec=SPEC)
    with pytest.raises(
        ArtifactError, match=r"tensorrt 11.0 does not take it, tensorrt_rtx is not installed; build"
    ):
        engine_runner.EngineRunner(engine)


def test_an_engine_that_does_not_run_is_refused(engine, gpu, monkeypatch):
    del gpu
    monkeypatch.setattr(Context, "execute_async_v3", lambda *_: False)
    runner = engine_runner.EngineRunner(engine)
    with pytest.raises(ArtifactError, match="TensorRT could not run it"):
        runner(np.zeros((1, 3, 8, 16), np.float32))


def test_without_a_gpu_it_is_said(edgedetr, engine, tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    import cv2

    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), WHITE[0])
    model = engine.with_name("model.onnx")
    status, _, error = edgedetr("verify", model, engine, "--images", tmp_path / "images")
    assert status == 1
    assert "model.engine runs on an NVIDIA GPU and torch finds none here; verify it on" in error
    missing = tmp_path / "none.engine"
    error = edgedetr("verify", model, missing, "--images", tmp_path / "images")[2]
    assert "none.engine is missing; build it: edgedetr export engine" in error
