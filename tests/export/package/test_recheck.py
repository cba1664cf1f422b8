"""A package's models and reports pass the gates once more where a fleet has a policy."""

import json
import shutil
from hashlib import sha256

import pytest

from edgedetr.export.package.write import Contents, package
from edgedetr.runtime.manifest import manifest_path, write_manifest
from edgedetr.runtime.spec import ModelSpec


@pytest.fixture
def packed(fp32, int8, report, stats, checked, tmp_path):
    """A folder with an INT8 model, its FP32 model, an engine and what the gates saw."""
    engine = tmp_path / "m.engine"
    engine.write_bytes(b"engine")
    spec = ModelSpec((8, 16), ("Car", "Pedestrian"))
    write_manifest(engine, kind="engine", command="", spec=spec, parents=[fp32])
    accuracy = tmp_path / "report.json"
    models = [{"name": p.name, "sha256": sha256(p.read_bytes()).hexdigest()} for p in (fp32, int8)]
    accuracy.write_text(json.dumps({"models": models, "parity": []}), encoding="utf-8")
    contents = Contents(
        models=(int8, fp32),
        parity=(*checked["parity"], report(fp32, int8)),
        engines=(engine,),
        calibration=stats,
        report=accuracy,
    )
    package(contents, tmp_path / "p")
    return tmp_path / "p"


@pytest.fixture
def verify(edgedetr, packed, tmp_path):
    """Holds the package to a policy; returns exit status, output and error."""

    def run(text=""):
        path = tmp_path / "fleet.toml"
        path.write_text(text, encoding="utf-8")
        return edgedetr("package", "verify", packed, "--policy", path)

    return run


@pytest.fixture
def replaced(packed):
    """Replaces a file of the package, as somebody with the key could, and corrects the manifest."""

    def replace(name, data):
        (packed / name).write_bytes(data)
        manifest = json.loads((packed / "MANIFEST.json").read_text(encoding="utf-8"))
        for file in manifest["files"]:
            if file["name"] == name:
                file |= {"sha256": sha256(data).hexdigest(), "size": len(data)}
        (packed / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")

    return replace


def test_what_was_packed_passes_again(verify):
    status, out, error = verify('require = ["accuracy", "checkpoint"]\n[int8]\nmin_frames = 40\n')
    assert status == 0, error
    assert "m.int8.onnx against m.onnx: frames 40" in out
    assert "limits: scores from 0.3, IoU >= 0.8, scores within 0.1, at most 10.00% lost" in out
    assert "policy fleet.toml is fulfilled" in out


def test_a_policy_that_is_not_fulfilled(verify):
    status, _, error = verify("[int8]\nmax_lost = 0.05\n")
    assert (status, "verify.m.int8.json has limit of lost detections 0.1" in error) == (1, True)
    status, _, error = verify('require = ["engine"]\n')
    assert (status, "m.engine has no report" in error) == (1, True)
    assert error.count("\n") == 1


def test_a_report_whose_verdict_is_made_up(verify, replaced, packed):
    name = "checks/verify.m.int8.json"
    values = json.loads((packed / name).read_text(encoding="utf-8"))
    wrong = values | {"lost": 180, "lost_share": 0.9, "lost_share_low": 0.8, "lost_share_high": 1.0}
    replaced(name, json.dumps(wrong).encode())
    status, _, error = verify()
    assert (status, "it says 'passed', its figures and limits say 'failed'" in error) == (1, True)


def test_a_chain_that_does_not_reach_the_models(verify, replaced, packed):
    chain = json.loads((packed / "checks/chain.json").read_text(encoding="utf-8"))
    replaced("checks/chain.json", json.dumps(chain | {"reports": []}).encode())
    status, _, error = verify()
    assert (status, "m.int8.onnx is int8 and has no report" in error) == (1, True)
    replaced("checks/chain.json", b"{")
    status, _, error = verify()
    assert (status, "checks/chain.json is damaged" in error) == (1, True)


def test_a_calibration_that_is_another(verify, replaced, packed):
    digest = json.loads((packed / "checks/calibration.json").read_text(encoding="utf-8"))
    replaced("checks/calibration.json", json.dumps(digest | {"sha256": "00"}).encode())
    status, _, error = verify()
    assert (status, "was quantized with another m.calib.json" in error) == (1, True)


def test_a_precision_that_is_made_up(verify, packed):
    manifest = json.loads((packed / "MANIFEST.json").read_text(encoding="utf-8"))
    manifest["models"][0]["precision"] = "fp32"
    (packed / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")
    status, _, error = verify()
    assert (status, "is int8, its manifest says fp32; do not use" in error) == (1, True)


def test_an_engine_of_another_model(verify, replaced, packed, tmp_path):
    other, spec = tmp_path / "other.onnx", ModelSpec((8, 16), ("Car", "Pedestrian"))
    other.write_bytes(b"other")
    engine = shutil.copy(packed / "models/m.engine", tmp_path / "m.engine")
    write_manifest(engine, kind="engine", command="", spec=spec, parents=[other])
    replaced("models/m.engine.manifest.json", manifest_path(engine).read_bytes())
    status, _, error = verify()
    assert (status, "m.engine was not built from m.int8.onnx or m.onnx" in error) == (1, True)


def test_a_package_from_before_chains_were_recorded(verify, packed):
    manifest = json.loads((packed / "MANIFEST.json").read_text(encoding="utf-8"))
    (packed / "checks/chain.json").unlink()
    manifest["files"] = [f for f in manifest["files"] if f["name"] != "checks/chain.json"]
    (packed / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")
    status, _, error = verify()
    assert (status, "does not say where its chains begin; package it again" in error) == (1, True)
