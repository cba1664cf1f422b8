"""Nothing ships whose checks failed, are missing or were of another model."""

import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from edgedetr.export.package.gates import precision_for_gates
from edgedetr.export.package.write import Contents, package
from edgedetr.graph.checksum import model_sha256
from edgedetr.runtime.errors import ArtifactError, GateError, UsageError
from edgedetr.runtime.files import sha256
from edgedetr.runtime.manifest import manifest_path, write_manifest
from edgedetr.runtime.package.reader import read_package
from edgedetr.runtime.spec import ModelSpec


def documented(path):
    """Make another file of the same model."""
    model = onnx.load(path)
    model.doc_string = "changed"
    onnx.save(model, path)


def test_what_is_in_less_than_fp32_needs_a_report(refuses, fp32, int8, report, stats):
    refuses("is int8 and has no report", [int8], calibration=stats)
    failed = report(fp32, int8, passed=False, reason="worst box error 9 px, allowed 8 px")
    refuses(
        r"verify\.m\.int8\.json: m\.int8\.onnx does not find what .* 9 px, allowed 8 px",
        [int8, fp32],
        parity=(failed,),
        calibration=stats,
    )


def test_a_failed_report_stops_fp32_as_well(refuses, fp32, report):
    checkpoint = fp32.with_name("m.safetensors")
    checkpoint.write_bytes(b"weights")
    refuses("does not find", [fp32], parity=(report(checkpoint, fp32, passed=False),))


def test_an_undecided_report_is_no_pass(refuses, fp32, int8, report, stats):
    """It says how many frames it needs, and what is to be told is its reason."""
    undecided = {"passed": False, "verdict": "undecided", "reason": "about 19 more frames"}
    checks = (report(fp32, int8, **undecided),)
    message = (
        r"m\.int8\.onnx is not known to find what m\.onnx finds: about 19 more frames; nothing"
    )
    refuses(message, [int8, fp32], parity=checks, calibration=stats)


def test_reports_lead_from_a_trusted_start(refuses, fp32, int8, report, stats, tmp_path):
    given = {"parity": (report(fp32, int8),), "calibration": stats}
    refuses(r"start at m\.onnx, which has no report itself; .*--reference", [int8], **given)
    other = shutil.copy(int8, tmp_path / "other.onnx")
    refuses(r"reference .*other\.onnx is int8, not FP32", [int8], references=(other,), **given)
    assert package(Contents((int8,), references=(fp32,), **given), tmp_path / "a.tar").gates
    checkpoint = tmp_path / "m.safetensors"
    checkpoint.write_bytes(b"weights")
    given["parity"] += (report(checkpoint, fp32),)
    assert package(Contents((int8,), **given), tmp_path / "b.tar").gates
    assert not (tmp_path / "out").exists()


def test_reports_in_a_circle_are_no_start(refuses, int8, report, stats, tmp_path):
    other = tmp_path / "other.onnx"
    shutil.copy(int8, other)
    documented(other)
    parity = (report(other, int8), report(int8, other))
    refuses("which has no report itself", [int8], parity=parity, calibration=stats)


def test_a_report_of_another_model(refuses, fp32, int8, report, stats):
    about = report(fp32, int8, candidate_sha256="12" * 32)
    refuses(
        r"verify\.m\.int8\.json is about another model: m\.int8\.onnx \(121212121212\.\.\.\)",
        [int8, fp32],
        parity=(about,),
        calibration=stats,
    )
    refuses("about another model", [fp32], parity=(report(fp32, int8),))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"passed": "yes"}', "[" * 100_000])
def test_a_report_that_is_none(refuses, fp32, tmp_path, text):
    path = tmp_path / "v.json"
    path.write_text(text, encoding="utf-8")
    refuses(r"v\.json", [fp32], error=ArtifactError, parity=(path,))


def test_a_manifest_that_does_not_fit(refuses, fp32, int8, report, stats):
    documented(int8)
    given = {"parity": (report(fp32, int8),), "calibration": stats}
    refuses("does not match its manifest", [int8, fp32], error=ArtifactError, **given)
    spec = ModelSpec((8, 16), ("Car", "Cyclist"))
    write_manifest(int8, kind="qdq", command="", spec=spec, parents=[fp32, stats])
    refuses(r"the spec in .*manifest\.json is not that of", [int8, fp32], **given)


def test_calibration_of_another_model(refuses, fp32, int8, report, stats, tmp_path):
    parity = (report(fp32, int8),)
    refuses(r"quantized with m\.calib\.json; give it", [int8, fp32], parity=parity)
    values = json.loads(stats.read_text())
    path = tmp_path / "other.json"
    for change, message in (
        ({"model_sha256": "00"}, "was collected on another model: m.onnx"),
        ({"frames": 41}, "quantized with another m.calib.json"),
    ):
        path.write_text(json.dumps(values | change), encoding="utf-8")
        refuses(message, [int8, fp32], parity=parity, calibration=path)
    path.write_text("{}", encoding="utf-8")
    refuses("no", [int8, fp32], error=ArtifactError, parity=parity, calibration=path)


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
    made = package(Contents((int8, fp32), **given), tmp_path / "p.tar")
    assert "checks/m.int8.onnx.coverage.json" in {f.name for f in made.files}


def test_the_accuracy_is_that_of_the_model(refuses, fp32, tmp_path):
    path = tmp_path / "report.json"
    good = {"models": [{"name": "m", "sha256": sha256(fp32), "ap": 0.4}], "parity": []}
    check = {"name": "v.json", "passed": False}
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
    made = package(Contents((fp32,), report=path), tmp_path / "p.tar")
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


def with_weights_beside(path, folder):
    """Write the same model with its weights in a file of its own; return both."""
    folder.mkdir()
    weights = f"{path.stem}.bin"
    made = folder / path.name
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.dims:
            set_external_data(tensor, weights)
    onnx.save(model, made)
    return made, folder / weights


def change(weights):
    """Flip a bit of the weights."""
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))


@pytest.mark.parametrize("what", ["report", "verify", "calibration", "coverage"])
def test_weights_that_changed_after_a_check(  # noqa: PLR0913, PLR0917 - fixtures
    what, refuses, fp32, int8, report, stats, tmp_path
):
    source, source_weights = with_weights_beside(fp32, tmp_path / "fp32")
    model, weights = with_weights_beside(int8, tmp_path / "int8")
    values = json.loads(stats.read_text()) | {"model_sha256": model_sha256(source)}
    stats.write_text(json.dumps(values), encoding="utf-8")
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
    refuses(messages[what], [model], **given)


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
    failed = report(fp32, engine, passed=False)
    refuses(r"m\.engine does not find", [fp32], parity=(failed,), **given)
    parity = (report(fp32, engine),)
    made = package(Contents((fp32,), parity=parity, engines=(engine,)), tmp_path / "p.tar")
    assert made.models[1].kind == "engine"
    assert made.models[1].companions == ("models/m.engine.manifest.json",)
    with read_package(tmp_path / "p.tar", require_signature=False) as opened:
        path = opened.model_path("models/m.engine")
        assert manifest_path(path).is_file()
        assert opened.golden_answer("models/m.engine").model == "models/m.onnx"


def test_a_spec_that_differs_from_the_model_s_own(refuses, fp32):
    spec = ModelSpec((8, 16), ("Car", "Cyclist"))
    refuses("carries a spec that differs from --spec", [fp32], error=UsageError, spec=spec)


def test_models_of_two_specs(refuses, fp32, tiny_onnx, tmp_path):
    other = tiny_onnx(spec=ModelSpec((8, 16), ("Car", "Tram"))).rename(tmp_path / "o.onnx")
    refuses("must have one spec", [fp32, other], error=UsageError)


def test_a_model_that_finds_nothing(refuses, tiny_onnx):
    path = tiny_onnx(boxes=((0.5, 0.5, 0, 0), (0.5, 0.5, 0, 0)))
    refuses("has no stable detection of score 0.1 or more in the golden frame", [path])


def test_a_model_that_is_sure_of_nothing(refuses, tiny_onnx, fp32, monkeypatch):
    weak = tiny_onnx(bias=((-9.0, -9.0), (-9.0, -9.0)))
    refuses("has no stable detection", [weak])
    monkeypatch.setattr("edgedetr.export.package.write.lost_detections", lambda *_: (0,))
    refuses("has no stable detection", [fp32])


def test_damaged_models(refuses, fp32, tmp_path):
    refuses(r"none\.onnx is missing", [tmp_path / "none.onnx"], error=ArtifactError)
    fp32.write_bytes(fp32.read_bytes()[:200])
    refuses("not a whole ONNX model", [fp32], error=ArtifactError)


def test_the_precision_of_a_graph(onnx_model, fp32, int8):
    assert precision_for_gates(onnx.load(fp32)) == "fp32"
    assert precision_for_gates(onnx.load(int8)) == "int8"
    half = [("Cast", "c", ["x"], "h", {"to": TensorProto.FLOAT16})]
    half += [("Cast", "d", ["h"], "y", {"to": TensorProto.FLOAT})]
    assert precision_for_gates(onnx_model(half, {}, inputs={"x": (1,)}, outputs=["y"])) == "fp16"
    constant = [("Cast", "d", ["h"], "y", {"to": TensorProto.FLOAT})]
    numbers = {"h": np.zeros(1, np.float16)}
    assert precision_for_gates(onnx_model(constant, numbers, inputs={}, outputs=["y"])) == "fp16"
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["a", "b", "c"])
    assert precision_for_gates(helper.make_model(helper.make_graph([node], "g", [], []))) == "int8"


def of_few_bits(kind):
    """A product with weights of sixteen levels, stored in one of several ways."""
    weights = np.arange(1024).reshape(32, 32) % 16
    product: tuple[object, ...] = ("MatMul", "head", ["x", "v"], "y", {})
    cast = ("Cast", "cast", ["w"], "v", {"to": TensorProto.FLOAT})
    moved = [("Reshape", "r", ["w", "s"], "u", {}), (*cast[:2], ["u"], *cast[3:])]
    nodes, w = {
        "uint8": ([cast, product], weights.astype(np.uint8)),
        "int32": ([cast, product], weights.astype(np.int32)),
        "int64, moved": ([*moved, product], weights.reshape(-1).astype(np.int64)),
        "shifted": (
            [("BitShift", "b", ["w", "by"], "u", {"direction": "RIGHT"}), moved[1], product],
            weights.astype(np.uint64),
        ),
    }[kind]
    constants = {"w": w, "s": np.array([32, 32]), "by": np.uint64(4)}
    return nodes, constants


@pytest.mark.parametrize("kind", ["uint8", "int32", "int64, moved", "shifted"])
def test_weights_of_few_bits_are_not_fp32(kind, onnx_model):
    nodes, constants = of_few_bits(kind)
    model = onnx_model(nodes, constants, inputs={"x": (1, 32)}, outputs=["y"])
    assert precision_for_gates(model) == "int8"


def test_an_operator_of_another_domain_is_not_fp32(fp32, refuses):
    """MatMulNBits holds weights of four bits in bytes."""
    model = onnx.load(fp32)
    node = helper.make_node("MatMulNBits", ["a", "b", "c"], ["d"], domain="com.microsoft")
    assert precision_for_gates(helper.make_model(helper.make_graph([node], "g", [], []))) == "int8"
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 2), np.uint8), "packed"))
    onnx.save(model, fp32)
    refuses(r"m\.onnx is int8 and has no report", [fp32])


def test_whole_numbers_that_are_no_weights_leave_fp32(onnx_model):
    nodes = [
        ("Gather", "rows", ["x", "rows"], "g", {"axis": 1}),
        ("Cast", "size", ["two"], "f", {"to": TensorProto.FLOAT}),
        ("Mul", "twice", ["g", "f"], "y", {}),
    ]
    constants = {"rows": np.arange(512) % 32, "two": np.array([2])}
    model = onnx_model(nodes, constants, inputs={"x": (1, 32)}, outputs=["y"])
    assert precision_for_gates(model) == "fp32"
