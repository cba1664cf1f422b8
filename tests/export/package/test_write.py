"""What ``edgedetr package`` writes."""

import hashlib
import json
import shutil
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgedetr.export.package.chain import check_chain
from edgedetr.export.package.write import Contents, package
from edgedetr.runtime.errors import ArtifactError, GateError, UsageError
from edgedetr.runtime.files import sha256
from edgedetr.runtime.manifest import manifest_path
from edgedetr.runtime.package.counter import STATE
from edgedetr.runtime.package.reader import read_package
from edgedetr.runtime.spec import ModelSpec

SPEC_TOML = 'input_hw = [8, 16]\nclass_names = ["Car", "Pedestrian"]\n'


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
        )
        assert status == 0, error
        assert "signed by" in out
        assert "m.int8.onnx against m.onnx: frames 40, matched 40" in error
        assert "calibrated on 40 frames" in error
        status, out, error = edgedetr("package", "verify", tmp_path / name)
        assert (status, "give --public-key" in error) == (0, True)
        status, out, error = edgedetr(
            *("package", "verify", tmp_path / name, "--public-key", f"{key}.pub")
        )
        assert (status, error) == (0, "")
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


def test_the_same_contents_give_the_same_bytes(fp32, key, tmp_path):
    made = []
    for name in ("a.tar", "b.tar", "a.tar"):
        package(Contents((fp32,), references=(fp32,)), tmp_path / name, key, command="c")
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1] == made[2]
    package(Contents((fp32,), references=(fp32,)), tmp_path / "folder", key, command="c")
    with read_package(tmp_path / "a.tar", key.with_name("k.pub")) as opened:
        inside = {p: p.read_bytes() for p in (tmp_path / "folder").rglob("*") if p.is_file()}
        for path, data in inside.items():
            name = path.relative_to(tmp_path / "folder").as_posix()
            if name not in {"MANIFEST.json", "MANIFEST.sig"}:
                assert opened.read(name) == data
        assert len(inside) == len(opened.manifest.files) + 2


def test_a_foreign_model_with_external_data(edgedetr, tiny_onnx, key, tmp_path):
    model = onnx.load(tiny_onnx(store_spec=False))
    folder = tmp_path / "foreign"
    folder.mkdir()
    path = folder / "f.onnx"
    # ONNX Runtime wants axes in the file itself: 45 is the size of that integer as a Python object
    onnx.save(model, path, save_as_external_data=True, location="f.bin", size_threshold=45)
    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC_TOML, encoding="utf-8")
    status, _, error = edgedetr("package", path)
    assert (status, "holds no model spec" in error) == (1, True)
    status, out, error = edgedetr("package", path, "--spec", spec, "--key", key)
    assert status == 0, error
    assert out.startswith(f"{folder / 'f.tar'}: 10 files")
    public = f"{key}.pub"
    status, out, error = edgedetr("package", "verify", folder / "f.tar", "--public-key", public)
    assert (status, error) == (0, "")
    with read_package(folder / "f.tar", key.with_name("k.pub")) as opened:
        assert opened.manifest.models[0].companions == ("models/f.bin",)
    (folder / "f.bin").unlink()
    status, _, error = edgedetr("package", path, "--spec", spec, "-o", tmp_path / "g.tar")
    assert (status, "f.bin" in error) == (1, True)
    assert not (tmp_path / "g.tar").exists()


def test_names_in_the_package(refuses, fp32, tmp_path):
    folder = tmp_path / "deep"
    folder.mkdir()
    again = shutil.copy(fp32, folder / "m.onnx")
    refuses("two files would have the name models/m.onnx", [fp32, again], error=UsageError)
    odd = shutil.copy(fp32, tmp_path / "my model.onnx")
    refuses("may be called 'models/my model.onnx'", [odd], ArtifactError, references=(odd,))


def test_outputs(fp32, tmp_path):
    for output in (fp32, tmp_path, tmp_path / "d.tar"):
        (tmp_path / "d.tar").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match="another"):
            package(Contents((fp32,), references=(fp32,)), output)


def test_an_output_is_no_input_by_whatever_name(fp32, checked, key, tmp_path):
    contents = Contents(**checked)
    for place, given in (("hard.tar", fp32), ("link.tar", checked["parity"][0]), ("k.tar", key)):
        output, before = tmp_path / place, given.read_bytes()
        output.hardlink_to(given) if place == "hard.tar" else output.symlink_to(given)
        with pytest.raises(UsageError, match="another file to write to"):
            package(contents, output, key)
        assert given.read_bytes() == before


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


def test_a_file_that_changes_while_it_is_packed(fp32, tmp_path, monkeypatch):
    from edgedetr.export.package import write as module

    write = module._write_tar

    def late(*arguments):
        write(*arguments)
        data = bytearray(arguments[2].read_bytes())
        data[data.index(b"ReduceMean")] ^= 1
        arguments[2].write_bytes(data)

    monkeypatch.setattr(module, "_write_tar", late)
    with pytest.raises(ArtifactError, match=r"models/m\.onnx was changed"):
        package(Contents((fp32,), references=(fp32,)), tmp_path / "p.tar")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("beside", [False, True])
def test_a_model_that_is_replaced_behind_the_gates(beside, tiny_onnx, tmp_path, monkeypatch):
    """Another file takes its name, or its weights', after it was read and before it is packed."""
    model, changed = (onnx.load(tiny_onnx()) for _ in range(2))
    path, other = tmp_path / "m.onnx", tmp_path / "other.onnx"
    place: dict[str, Any] = {"save_as_external_data": True, "size_threshold": 45}
    onnx.save(model, path, **(place | {"location": "m.bin"} if beside else {}))
    bias = next(t for t in changed.graph.initializer if t.name == "bias")
    bias.CopyFrom(numpy_helper.from_array(np.array([[[-3, -9], [-9, -9]]], np.float32), "bias"))
    onnx.save(changed, other, **(place | {"location": "other.bin"} if beside else {}))
    taken = "m.bin" if beside else "m.onnx"

    def judge(*arguments):
        (tmp_path / taken.replace("m.", "other.")).replace(tmp_path / taken)
        return check_chain(*arguments)

    monkeypatch.setattr("edgedetr.export.package.write.check_chain", judge)
    with pytest.raises(GateError, match=r"m\.onnx changed while it was packed; nothing was"):
        package(Contents((path,), references=(path,)), tmp_path / "x.tar")
    assert not (tmp_path / "x.tar").exists()


def test_a_report_that_is_replaced_behind_the_gates(checked, tmp_path, monkeypatch):
    (path,) = checked["parity"]

    def judge(*arguments):
        lines = check_chain(*arguments)
        path.write_bytes(path.read_bytes().replace(b'"frames": 40', b'"frames": 99'))
        return lines

    monkeypatch.setattr("edgedetr.export.package.write.check_chain", judge)
    with pytest.raises(
        GateError, match=r"verify\.m\.json changed while it was packed; nothing was"
    ):
        package(Contents(**checked), tmp_path / "x.tar")
    assert not (tmp_path / "x.tar").exists()


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


def test_models_of_two_specs(refuses, fp32, tiny_onnx, tmp_path):
    other = tiny_onnx(spec=ModelSpec((8, 16), ("Car", "Tram"))).rename(tmp_path / "o.onnx")
    refuses("must have one spec", [fp32, other], error=UsageError)
