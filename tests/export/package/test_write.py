"""What ``edgedetr package`` writes."""

import shutil
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgedetr.export.package.chain import check_chain
from edgedetr.export.package.write import Contents, package
from edgedetr.runtime.errors import ArtifactError, GateError, UsageError
from edgedetr.runtime.package.reader import read_package
from edgedetr.runtime.spec import ModelSpec

SPEC_TOML = 'input_hw = [8, 16]\nclass_names = ["Car", "Pedestrian"]\n'


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


def test_models_of_two_specs(refuses, fp32, tiny_onnx, tmp_path):
    other = tiny_onnx(spec=ModelSpec((8, 16), ("Car", "Tram"))).rename(tmp_path / "o.onnx")
    refuses("must have one spec", [fp32, other], error=UsageError)
