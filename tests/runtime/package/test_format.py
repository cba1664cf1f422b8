import json
from dataclasses import replace

import pytest

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.package.format import PackageManifest, PackedFile, PackedModel
from edgedetr.runtime.package.reader import read_package

PACKED = {"name": "models/m.onnx", "kind": "onnx", "precision": "fp32"}


def file(name, **changes):
    return {"name": name, "sha256": "", "size": 0} | changes


@pytest.mark.parametrize(
    "change",
    [
        {"format": "edgedetr-package-2"},
        {"models": []},
        {"models": [{"name": "models/n.onnx", "kind": "onnx", "precision": "fp32"}]},
        {"models": [{"name": "models/m.onnx", "kind": "pickle", "precision": "fp32"}]},
        {"models": [PACKED | {"source": "models/n.onnx"}]},
        {"models": [PACKED | {"companions": ["../n.bin"]}]},
        {"files": []},
        {"files": [file("spec.json"), file("golden.json")]},
        {"files": [file("spec.json"), file("spec.json")]},
        {"files": [file("spec.json", size=1.5)]},
        {"files": [file("../../etc/passwd")]},
        {"gates": "none"},
        {"more": 1},
    ],
    ids=lambda change: json.dumps(change)[:40],
)
def test_a_signed_manifest_that_makes_no_sense(change, write, package_files, public):
    with pytest.raises(ArtifactError, match=r"MANIFEST\.json.*(another version|changed)"):
        read_package(write(package_files(**change)), public)


def manifest(names, *models):
    files = tuple(PackedFile(name, "0" * 64, 1) for name in names)
    return PackageManifest("edgedetr-package-1", models, files, (), "", (), "make")


ALWAYS = ("golden.json", "golden.ppm")


def test_a_manifest_lists_every_file_of_its_models():
    engine = PackedModel("models/m.engine", "engine", "fp16", source="models/m.onnx")
    onnx = PackedModel("models/m.onnx", "onnx", "fp16", companions=("models/m.onnx.data",))
    names = (*ALWAYS, "models/m.engine", "models/m.onnx", "models/m.onnx.data", "spec.json")
    assert manifest(names, engine, onnx).counter == 0
    for gone in names:
        rest = [name for name in names if name != gone]
        with pytest.raises(ValueError, match=rf"^{gone} is not among the files$"):
            manifest(rest, engine, onnx)


def test_a_counter_is_not_negative():
    model = PackedModel("models/m.onnx", "onnx", "fp32")
    whole = manifest((*ALWAYS, "models/m.onnx", "spec.json"), model)
    with pytest.raises(ValueError, match="must not be negative"):
        replace(whole, counter=-1)
