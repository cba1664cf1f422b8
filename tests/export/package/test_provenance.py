"""How a package was made, as an in-toto statement with SLSA's predicate."""

import json

from edgedetr.export.package import provenance as module
from edgedetr.export.package.documents import PROVENANCE
from edgedetr.export.package.provenance import source_commit
from edgedetr.export.package.write import Contents, package
from edgedetr.runtime.files import sha256
from edgedetr.runtime.package.reader import read_package


def test_the_statement(int8_checked, key, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "source_commit", lambda: "ab" * 20 + "-dirty")
    [int8], [fp32], stats = (int8_checked[k] for k in ("models", "references", "calibration"))
    contents = Contents(**int8_checked, counter=7)
    package(contents, tmp_path / "p.tar", key, command="edgedetr package m.int8.onnx")
    with read_package(tmp_path / "p.tar", key.with_name("k.pub")) as opened:
        found, manifest = json.loads(opened.read(PROVENANCE)), opened.manifest
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    assert found["subject"] == [{"name": "models/m.int8.onnx", "digest": {"sha256": sha256(int8)}}]
    build, run = found["predicate"]["buildDefinition"], found["predicate"]["runDetails"]
    assert build["externalParameters"] == {
        "command": "edgedetr package m.int8.onnx",
        "counter": 7,
    }
    [step] = build["internalParameters"]["steps"]
    assert (step["output"], step["kind"]) == ("models/m.int8.onnx", "qdq")
    needed = {d["name"]: d["digest"] for d in build["resolvedDependencies"]}
    assert needed == {
        "m.onnx": {"sha256": sha256(fp32)},
        "m.calib.json": {"sha256": sha256(stats)},
        "edgedetr": {"gitCommit": "ab" * 20},
    }
    assert build["resolvedDependencies"][-1]["annotations"] == {"dirty": True}
    assert run["builder"]["id"] == f"urn:edgedetr:signer:{manifest.signed_by}"
    [check] = run["byproducts"]
    assert check["annotations"] == {"command": "edgedetr verify"}


def test_the_commit_is_that_of_the_code_and_of_no_folder_around_it(monkeypatch, tmp_path):
    source_commit.cache_clear()
    monkeypatch.setattr(module, "__file__", str(tmp_path / "provenance.py"))
    assert source_commit() == ""
    source_commit.cache_clear()
    monkeypatch.undo()
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert source_commit() == ""
    source_commit.cache_clear()
