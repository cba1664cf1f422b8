"""Small models with what a package wants to see of them."""

import json

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgedetr.calib.stats import CalibrationStats
from edgedetr.export.package.write import Contents, package
from edgedetr.graph.checksum import model_sha256
from edgedetr.runtime.errors import GateError
from edgedetr.runtime.files import sha256
from edgedetr.runtime.manifest import write_manifest
from edgedetr.runtime.spec import ModelSpec, spec_from_json


@pytest.fixture(autouse=True)
def no_passphrase(monkeypatch):
    monkeypatch.delenv("EDGEDETR_KEY_PASSPHRASE", raising=False)


@pytest.fixture
def fp32(tiny_onnx, tmp_path):
    """A small model in FP32."""
    return tiny_onnx().rename(tmp_path / "m.onnx")


@pytest.fixture
def stats(fp32, tmp_path):
    """Stats of the small model."""
    path = tmp_path / "m.calib.json"
    spec = ModelSpec((8, 16), ("Car", "Pedestrian"))
    made = CalibrationStats("m.onnx", sha256(fp32), spec, "mse", 99.99, 40, "ab" * 32, ())
    made.write(path)
    return path


@pytest.fixture
def int8(fp32, stats, tmp_path):
    """The small model with its input in INT8, and its manifest."""
    model = onnx.load(fp32)
    constants = [
        numpy_helper.from_array(np.array(1 / 127, np.float32), "scale"),
        numpy_helper.from_array(np.array(0, np.int8), "zero_point"),
    ]
    model.graph.initializer.extend(constants)
    for node in model.graph.node:
        node.input[:] = ["seen" if name == "images" else name for name in node.input]
    pair = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero_point"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "scale", "zero_point"], ["seen"]),
    ]
    nodes = [*pair, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    path = tmp_path / "m.int8.onnx"
    onnx.save(model, path)
    spec = spec_from_json(model.metadata_props[0].value, "m")
    write_manifest(path, kind="qdq", command="", spec=spec, parents=[fp32, stats])
    return path


@pytest.fixture
def report(tmp_path):
    """Writes a report of ``edgedetr verify`` about two files."""

    def write(reference, candidate, **changes):
        values = {
            "passed": True,
            "reason": "",
            "frames": 40,
            "reference": reference.name,
            "reference_sha256": model_sha256(reference),
            "candidate": candidate.name,
            "candidate_sha256": model_sha256(candidate),
        } | changes
        path = tmp_path / f"verify.{candidate.stem}.json"
        path.write_text(json.dumps(values), encoding="utf-8")
        return path

    return write


@pytest.fixture
def key(edgedetr, tmp_path):
    """A private key; the public one lies beside it."""
    path = tmp_path / "keys" / "k"
    assert edgedetr("package", "keygen", path)[0] == 0
    return path


@pytest.fixture
def refuses(tmp_path):
    """Calls ``package``, which must refuse with a message and leave nothing."""

    def check(message, models, error=GateError, key=None, **contents):
        for output in (tmp_path / "out" / "p.tar", tmp_path / "out" / "p"):
            with pytest.raises(error, match=message):
                package(Contents(tuple(models), **contents), output, key)
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())

    return check
