"""Nothing ships whose checks failed, are missing or were of another model."""

import json
import shutil
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.export.package.write import Contents, package
from edgedetr.export.transforms.stored_ranges import RANGES_KEY
from edgedetr.graph.checksum import model_files, model_sha256
from edgedetr.runtime.errors import ArtifactError, GateError
from edgedetr.runtime.files import sha256
from edgedetr.runtime.manifest import manifest_path, write_manifest
from edgedetr.runtime.package.reader import read_package
from edgedetr.runtime.spec import ModelSpec


def test_calibration_of_another_model(refuses, fp32, int8, report, stats, tmp_path):
    parity = (report(fp32, int8),)
    refuses(r"quantized with m\.calib\.json; give it", [int8, fp32], parity=parity)
    values = json.loads(stats.read_text())
    path = tmp_path / "other.json"
    path.write_text(json.dumps(values | {"frames": 41}), encoding="utf-8")
    message = r"quantized with another m\.calib\.json"
    refuses(message, [int8, fp32], parity=parity, calibration=path)
    path.write_text("{}", encoding="utf-8")
    quantized_with(int8, fp32, path)
    refuses("no", [int8, fp32], error=ArtifactError, parity=parity, calibration=path)
    path.write_text(json.dumps(values | {"model_sha256": "00"}), encoding="utf-8")
    quantized_with(int8, fp32, path)
    message = r"was collected on another model: m\.onnx"
    refuses(message, [int8, fp32], parity=parity, calibration=path)


def quantized_with(int8, *parents, kind="qdq"):
    """Write the manifest of an INT8 model that was made from these files."""
    spec = ModelSpec((8, 16), ("Car", "Pedestrian"))
    write_manifest(int8, kind=kind, command="", spec=spec, parents=parents)


def test_int8_says_how_it_was_quantized(refuses, fp32, int8, report, stats):
    """A manifest that was deleted, or names no calibration, is no way around one."""
    given = {"parity": (report(fp32, int8),)}
    for calibration in (None, stats):
        manifest_path(int8).unlink(missing_ok=True)
        message = r"m\.int8\.onnx is int8 and has no manifest .* edgedetr export qdq FP32"
        refuses(message, [int8, fp32], calibration=calibration, **given)
        quantized_with(int8, fp32, stats, kind="onnx")
        refuses(message, [int8, fp32], calibration=calibration, **given)
        quantized_with(int8, fp32)
        message = r"names no calibration, so m\.onnx must have been trained for INT8: give that"
        refuses(message, [int8, fp32], calibration=calibration, **given)


def test_two_int8_models_of_two_calibrations(refuses, fp32, int8, report, stats, tmp_path):
    other, second = tmp_path / "n.int8.onnx", tmp_path / "n.calib.json"
    second.write_text(stats.read_text().replace('"frames": 40', '"frames": 41'))
    shutil.copy(int8, other)
    quantized_with(other, fp32, second)
    given = {"parity": (report(fp32, int8), report(fp32, other))}
    for calibration in (stats, second):
        message = r"was quantized with another .\.calib\.json than"
        refuses(message, [int8, other, fp32], calibration=calibration, **given)


def test_a_model_that_was_trained_for_int8_needs_no_calibration(fp32, int8, report, tmp_path):
    model = onnx.load(fp32)
    helper.set_model_props(model, {p.key: p.value for p in model.metadata_props} | {RANGES_KEY: ""})
    onnx.save(model, fp32)
    quantized_with(int8, fp32)
    parity = (report(fp32, int8),)
    made = package(Contents((int8,), parity=parity, references=(fp32,)), tmp_path / "p.tar")
    assert not any("calibrated" in gate for gate in made.gates)


def coverage(path, int8, source_sha256):
    """Write what a search of INT8 coverage would have."""
    values = {"int8": int8.name, "model": "m.onnx", "model_sha256": source_sha256, "command": ""}
    figures = {"max_ap_drop": 1.0, "is_worth_it": True, "coverage": 0.5, "frames": 4, "macs": 9}
    values |= {"fp32_ap": 40.0, "ap": 40.0, "chosen": [], "curve": [], "blocks": []} | figures
    path.write_text(json.dumps(values), encoding="utf-8")


def test_the_measured_coverage_is_that_of_the_model(refuses, fp32, int8, report, stats, tmp_path):
    given = {"parity": (report(fp32, int8),), "calibration": stats}
    path = int8.with_name("m.int8.onnx.coverage.json")
    path.write_text("{}", encoding="utf-8")
    refuses("is no coverage record", [int8, fp32], error=ArtifactError, **given)
    coverage(path, tmp_path / "n.onnx", sha256(fp32))
    refuses(r"coverage\.json is not about", [int8, fp32], **given)
    coverage(path, int8, "12" * 32)
    refuses(r"coverage\.json is not about", [int8, fp32], **given)
    coverage(path, int8, sha256(fp32))
    made = package(Contents((int8, fp32), references=(fp32,), **given), tmp_path / "p.tar")
    assert "checks/m.int8.onnx.coverage.json" in {f.name for f in made.files}


def test_the_accuracy_is_that_of_the_model(refuses, fp32, tmp_path):
    path = tmp_path / "report.json"
    good = {"models": [{"name": "m", "sha256": sha256(fp32), "ap": 0.4}], "parity": []}
    check = {"name": "v.json", "passed": False, "verdict": "failed", "figures": {}}
    undecided = check | {"verdict": "undecided"}
    for change, message, error in (
        ({"parity": [check]}, "v.json did not pass: failed", GateError),
        ({"verdict": "failed"}, r"report\.json did not pass: failed", GateError),
        ({"verdict": 3}, "'verdict' must be a text", ArtifactError),
        ({"parity": [undecided]}, "v.json did not pass: undecided", GateError),
        ({"models": []}, "does not contain m.onnx", GateError),
        ({"models": 3}, "is no report.json", ArtifactError),
        ({"models": [{"name": "m", "file_mib": 1}]}, "'sha256' must be a text", ArtifactError),
    ):
        path.write_text(json.dumps(good | change), encoding="utf-8")
        refuses(message, [fp32], error=error, report=path)
    path.write_text(json.dumps(good), encoding="utf-8")
    made = package(Contents((fp32,), references=(fp32,), report=path), tmp_path / "p.tar")
    assert "accuracy in report.json" in made.gates


def test_random_weights_of_the_same_size_are_not_what_was_measured(refuses, fp32, tmp_path):
    path = tmp_path / "report.json"
    trained = {"name": "m", "sha256": sha256(fp32)}
    path.write_text(json.dumps({"models": [trained], "parity": []}), encoding="utf-8")
    size, model = fp32.stat().st_size, onnx.load(fp32)
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            random = rng.normal(scale=0.3, size=tuple(tensor.dims)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(random, tensor.name))
    onnx.save(model, fp32)
    assert fp32.stat().st_size == size
    refuses(r"report\.json does not contain m\.onnx as it is now", [fp32], report=path)


def change(weights):
    """Flip a bit of the weights."""
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))


@pytest.mark.parametrize("what", ["report", "verify", "calibration", "coverage"])
def test_weights_that_changed_after_a_check(  # noqa: PLR0913, PLR0917 - fixtures
    what, refuses, fp32, int8, report, stats, weights_beside, tmp_path
):
    source, source_weights = weights_beside(fp32, tmp_path / "fp32")
    model, weights = weights_beside(int8, tmp_path / "int8")
    values = json.loads(stats.read_text()) | {"model_sha256": model_sha256(source)}
    stats.write_text(json.dumps(values), encoding="utf-8")
    quantized_with(model, source, stats)
    given = {"parity": (report(source, model),), "calibration": stats, "references": (source,)}
    measured = model.with_name("m.int8.onnx.coverage.json")
    given["report"] = tmp_path / "report.json"
    reported = {"models": [{"name": "m.int8", "sha256": model_sha256(model)}], "parity": []}
    given["report"].write_text(json.dumps(reported), encoding="utf-8")
    coverage(measured, model, model_sha256(source))
    assert package(Contents((model,), **given), tmp_path / "good.tar").gates

    change(weights if what in {"report", "verify"} else source_weights)
    messages = {
        "report": r"report\.json does not contain m\.int8\.onnx as it is now",
        "verify": r"verify\.m\.int8\.json is about another model: m\.int8\.onnx",
        "calibration": r"m\.calib\.json was collected on another model: m\.onnx",
        "coverage": r"coverage\.json is not about .*m\.int8\.onnx as it is now",
    }
    if what != "verify":
        given["parity"] = (report(source, model),)
    if what == "coverage":
        values["model_sha256"] = model_sha256(source)
        stats.write_text(json.dumps(values), encoding="utf-8")
        quantized_with(model, source, stats)
    refuses(messages[what], [model], **given)


def test_an_engine_of_a_model_whose_weights_changed(refuses, fp32, weights_beside, tmp_path):
    """Built from an ONNX file and the weights beside it; both are its parents."""
    model, weights = weights_beside(fp32, tmp_path / "fp32")
    engine = tmp_path / "m.engine"
    engine.write_bytes(b"engine")
    spec = ModelSpec((8, 16), ("Car", "Pedestrian"))
    write_manifest(engine, kind="engine", command="", spec=spec, parents=model_files(model))
    given: dict[str, Any] = {"engines": (engine,), "references": (model,)}
    assert package(Contents((model,), **given), tmp_path / "good.tar").gates
    change(weights)
    message = r"m\.engine was not built from m\.onnx as packaged; build it again"
    refuses(message, [model], **given)


def test_engines_of_the_model(refuses, fp32, report, tmp_path):
    spec = ModelSpec((8, 16), ("Car", "Pedestrian"))
    engine, other = tmp_path / "m.engine", tmp_path / "other.onnx"
    engine.write_bytes(b"engine")
    other.write_bytes(b"other")
    given = {"engines": (engine,)}
    refuses("manifest.json is missing", [fp32], error=ArtifactError, **given)
    write_manifest(engine, kind="engine", command="", spec=spec, parents=[other])
    refuses(r"m\.engine was not built from .*m\.onnx", [fp32], **given)
    write_manifest(engine, kind="onnx", command="", spec=spec, parents=[fp32])
    refuses("of the kind onnx", [fp32], **given)
    write_manifest(engine, kind="engine", command="", spec=spec, parents=[fp32])
    failed = report(fp32, engine, lost=1, reason="1 lost")
    refuses(r"m\.engine does not find", [fp32], parity=(failed,), **given)
    parity = (report(fp32, engine),)
    made = package(
        Contents((fp32,), parity=parity, references=(fp32,), engines=(engine,)), tmp_path / "p.tar"
    )
    assert made.models[1].kind == "engine"
    assert made.models[1].companions == ("models/m.engine.manifest.json",)
    with read_package(tmp_path / "p.tar", require_signature=False) as opened:
        path = opened.model_path("models/m.engine")
        assert manifest_path(path).is_file()
        assert opened.golden_answer("models/m.engine").model == "models/m.onnx"
