"""What the commands of packages write, print and refuse, from verify to a checked package."""

import hashlib
import json
from dataclasses import replace

import cv2
import numpy as np

from edgedetr.export.package.write import Contents, package
from edgedetr.runtime.files import sha256
from edgedetr.runtime.manifest import manifest_path
from edgedetr.runtime.package.counter import STATE
from edgedetr.runtime.package.reader import read_package


def test_the_way_of_a_model(edgedetr, fp32, int8, stats, key, tmp_path):
    """Every command on the way from verify to a checked package."""
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a", *range(39)):  # 40 frames of one detection each decide
        cv2.imwrite(str(images / f"{name}.png"), np.full((20, 40, 3), 255, np.uint8))
    licence = tmp_path / "MODEL-LICENSE"
    licence.write_text("CC0", encoding="utf-8")
    verified = tmp_path / "v.json"
    assert edgedetr("verify", fp32, int8, "--images", images, "--json", verified)[0] == 0
    for name in ("p.tar", "p"):
        status, out, error = edgedetr(
            *("package", int8, fp32, "-o", tmp_path / name, "--key", key, "--parity", verified),
            *("--reference", fp32),
            *("--calibration", stats, "--license", licence, "--golden-frame", images / "a.png"),
            *("--json", tmp_path / "made.json"),
        )
        assert status == 0, error
        made = json.loads((tmp_path / "made.json").read_text("utf-8"))
        assert made["gates"][1].startswith("m.int8.onnx against m.onnx: frames 40")
        assert "signed by" in out
        assert "m.int8.onnx against m.onnx: frames 40, matched 40" in error
        assert "calibrated on 40 frames" in error
        status, out, error = edgedetr("package", "verify", tmp_path / name)
        assert (status, "give --public-key" in error) == (0, True)
        status, out, error = edgedetr(
            *("package", "verify", tmp_path / name, "--public-key", f"{key}.pub"),
            *("--json", tmp_path / "checked.json"),
        )
        assert (status, error) == (0, "")
        checked = json.loads((tmp_path / "checked.json").read_text("utf-8"))
        assert checked == {
            "package": str(tmp_path / name),
            "signed": True,
            "files": made["files"],
            "counter": made["counter"],
            "preprocessing": "bit-exact",
            "gates": [],
        }
        assert "signature is valid, and each ONNX model finds its golden detections" in out
        with read_package(tmp_path / name, key.with_name("k.pub")) as opened:
            models = opened.manifest.models
            assert [(m.name, m.precision) for m in models] == [
                ("models/m.int8.onnx", "int8"),
                ("models/m.onnx", "fp32"),
            ]
            assert opened.model_path().read_bytes() == int8.read_bytes()
            assert opened.frame().shape == (20, 40, 3)
            assert opened.read("licenses/MODEL-LICENSE") == b"CC0"
            assert b"Apache License" in opened.read("licenses/edgedetr.LICENSE")
            digest = json.loads(opened.read("checks/calibration.json"))
            assert digest["sha256"] == sha256(stats)
            assert (digest["frames"], digest["frames_sha256"]) == (40, "ab" * 32)
            assert json.loads(opened.read("checks/v.json"))["passed"] is True
            assert any(v.startswith("onnxruntime==") for v in opened.manifest.versions)


def test_the_counter_of_a_package(edgedetr, fp32, tmp_path):
    output, given = tmp_path / "p.tar", ("--reference", fp32)
    status, out, _ = edgedetr("package", fp32, *given, "-o", output, "--counter", 7)
    assert (status, "counter 7, NOT SIGNED" in out) == (0, True)
    with read_package(output, require_signature=False) as opened:
        assert opened.manifest.counter == 7
    assert edgedetr("package", fp32, *given, "-o", output)[0] == 0
    with read_package(output, require_signature=False) as opened:
        assert opened.manifest.counter > 1_700_000_000  # seconds since 1970
    assert edgedetr("package", fp32, "-o", output, "--counter", -1)[0] == 2


def test_verify_refuses_what_is_older_than_what_was_accepted(edgedetr, fp32, key, tmp_path):
    (tmp_path / STATE).write_text(
        '{"format": "edgedetr-counter-1", "counter": 8, "package": "new.tar"}'
    )
    output = tmp_path / "p.tar"
    command = ("package", "verify", output, "--public-key", f"{key}.pub", "--state", tmp_path)
    for counter, status in ((7, 1), (8, 0), (9, 0)):
        contents = Contents((fp32,), references=(fp32,), counter=counter)
        package(contents, output, key)
        found, _, error = edgedetr(*command)
        assert (found, "has counter 7, older than 8 of new.tar" in error) == (status, status == 1)
    assert json.loads((tmp_path / STATE).read_text())["counter"] == 8  # it only looks


def test_a_manifest_of_another_model_is_found_in_the_package(int8, fp32, tmp_path, edgedetr):
    """Packed by hand, as nothing of ours would pack it."""
    made = tmp_path / "folder"
    package(Contents((fp32,), references=(fp32,)), made)
    manifest = json.loads((made / "MANIFEST.json").read_text(encoding="utf-8"))
    inner = manifest_path(int8).read_bytes()
    name = "models/m.onnx.manifest.json"
    (made / name).write_bytes(inner)
    listed = {"name": name, "sha256": hashlib.sha256(inner).hexdigest(), "size": len(inner)}
    manifest["files"] = sorted([*manifest["files"], listed], key=lambda file: file["name"])
    manifest["models"][0]["companions"] = [name]
    (made / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")
    status, _, error = edgedetr("package", "verify", made)
    assert (status, "models/m.onnx does not match its manifest" in error) == (1, True), error


def test_the_command_line_itself(edgedetr, fp32, key, tmp_path):
    assert edgedetr("package", "--help")[0] == 0
    status, _, error = edgedetr("package", "vrify", fp32)
    assert (status, "No such command 'vrify'" in error) == (2, True)
    status, out, _ = edgedetr("package", "--key", key, fp32, "--reference", fp32)
    assert status == 0
    status, out, _ = edgedetr(
        *("package", "create", fp32, "-o", tmp_path / "p.tar", "--reference", fp32)
    )
    assert (status, "NOT SIGNED" in out) == (0, True)
    public = f"{key}.pub"
    status, _, error = edgedetr("package", "verify", tmp_path / "p.tar", "--public-key", public)
    assert (status, "p.tar is not signed" in error) == (1, True)
    assert error.count("\n") == 1


def test_verify_runs_each_model(edgedetr, fp32, key, tmp_path, monkeypatch):
    from edgedetr.export.package import golden as module

    answer = module.answer_of
    monkeypatch.setattr(module, "answer_of", lambda *a: replace(answer(*a), labels=(1,)))
    package(Contents((fp32,), references=(fp32,)), tmp_path / "p.tar", key)
    status, _, error = edgedetr(
        *("package", "verify", tmp_path / "p.tar", "--public-key", f"{key}.pub")
    )
    assert (status, "m.onnx does not find 1 of its 1 golden detections" in error) == (1, True)
