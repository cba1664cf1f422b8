"""Engines are run by the runtime's backends, of which one is replaced here."""

from importlib.util import find_spec

import cv2
import numpy as np
import onnx
import pytest

from edgedetr.export.verify.compare import verify
from edgedetr.export.verify.limits import Gate
from edgedetr.export.verify.matching import Rule
from edgedetr.export.verify.runners.engine import EngineRunner
from edgedetr.runtime.backends import onnxruntime, tensorrt_rtx
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.manifest import write_manifest
from edgedetr.runtime.spec import ModelSpec

WHITE = [np.full((20, 40, 3), 255, np.uint8)]
SPEC = ModelSpec((8, 16), ("Car", "Pedestrian"))


@pytest.fixture
def engine(tiny_onnx, tmp_path):
    """A file called an engine of TensorRT-RTX beside the tiny model that it was built from."""
    model = tiny_onnx().rename(tmp_path / "model.onnx")
    path = tmp_path / "model.engine"
    path.write_bytes(b"plan")
    _write_manifest(path, model)
    return path


def _write_manifest(path, *parents, versions=("edgedetr==0.1.0", "tensorrt_rtx==1.7.1")):
    write_manifest(
        path, kind="engine", command="x", spec=SPEC, versions=versions, parents=list(parents)
    )


@pytest.fixture
def with_gpu(monkeypatch):
    """Let TensorRT-RTX run the ONNX file that lies beside an engine."""
    opened = []

    def open_session(path, spec=None):
        opened.append(path)
        (model,) = path.parent.glob("*.onnx")
        return onnxruntime.open_session(model, spec)

    monkeypatch.setattr(tensorrt_rtx, "open_session", open_session)
    return opened


def test_an_engine_is_compared_by_its_outputs(engine, with_gpu):
    report = verify(engine.with_name("model.onnx"), engine, WHITE, Rule(), Gate())
    assert with_gpu == [engine]
    assert report.passed, report.reason
    assert report.figures.matched == 4  # two queries, two classes
    assert report.activations is not None
    assert report.activations.note.endswith("model.engine has no graph that can be read")
    assert report.batches == ()


@pytest.mark.usefixtures("with_gpu")
def test_an_engine_has_the_precision_of_its_onnx_file(engine):
    path = engine.with_name("model.onnx")
    model = onnx.load(path)
    half = onnx.helper.make_node("Cast", ["mean"], ["m"], "half", to=onnx.TensorProto.FLOAT16)
    model.graph.node.append(half)
    onnx.save(model, path)
    assert EngineRunner(engine).precision == "fp16"
    path.rename(path.with_name("other.onnx"))
    assert EngineRunner(engine).precision == "fp32"


@pytest.mark.usefixtures("with_gpu")
def test_an_engine_must_say_what_built_it(engine):
    _write_manifest(engine, versions=("edgedetr==0.1.0",))
    with pytest.raises(ArtifactError, match="names no builder"):
        EngineRunner(engine)


@pytest.mark.skipif(find_spec("pycuda") is not None, reason="pycuda is installed here")
def test_without_a_gpu_it_is_said_in_a_line(edgedetr, engine, tmp_path):
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), WHITE[0])
    out = tmp_path / "v.json"
    arguments = ("--images", tmp_path / "images", "--json", out)
    status, _, error = edgedetr("verify", engine.with_name("model.onnx"), engine, *arguments)
    assert status == 2
    assert "pycuda is needed and cannot be imported" in error
    assert error.count("\n") == 1
    engine.unlink()
    status, _, error = edgedetr("verify", engine.with_name("model.onnx"), engine, *arguments)
    assert status == 1
    assert "model.engine is missing" in error
    assert not out.exists()
