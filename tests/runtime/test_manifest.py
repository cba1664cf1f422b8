"""A manifest holds what an artifact is and where it comes from, and finds a changed file."""

import hashlib
import json

import pytest

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.manifest import Parent, manifest_path, read_manifest, write_manifest
from edgedetr.runtime.spec import ModelSpec

SPEC = ModelSpec((64, 96), ("Car", "Pedestrian"))


@pytest.fixture
def artifact(tmp_path):
    """A model with its manifest, made from one parent."""
    parent, path = tmp_path / "student.safetensors", tmp_path / "student.onnx"
    parent.write_bytes(b"weights")
    path.write_bytes(b"graph")
    write_manifest(
        path,
        kind="onnx",
        command="edgedetr export onnx",
        spec=SPEC,
        versions=("onnx==1.2",),
        parents=[parent],
        summary="AP 0.5",
    )
    return path


def test_what_is_written_is_read_back(artifact):
    manifest = read_manifest(artifact)
    assert manifest.artifact == "student.onnx"
    assert manifest.kind == "onnx"
    assert manifest.spec == SPEC
    assert manifest.sha256 == hashlib.sha256(b"graph").hexdigest()
    assert manifest.parents == (
        Parent("student.safetensors", hashlib.sha256(b"weights").hexdigest()),
    )
    assert (manifest.versions, manifest.summary) == (("onnx==1.2",), "AP 0.5")


def test_a_file_that_was_changed_does_not_match(artifact):
    artifact.write_bytes(b"graphs")
    with pytest.raises(ArtifactError, match=r"student.onnx does not match its manifest"):
        read_manifest(artifact)


@pytest.mark.parametrize("gone", ["student.onnx", "student.onnx.manifest.json"])
def test_both_files_must_be_there(artifact, gone):
    artifact.with_name(gone).unlink()
    with pytest.raises(ArtifactError, match=rf"{gone} is missing; make the artifact again"):
        read_manifest(artifact)


def test_a_damaged_manifest_is_one_line(artifact):
    path = manifest_path(artifact)
    values = json.loads(path.read_text(encoding="utf-8"))
    for text in ("{", "[]", json.dumps({**values, "kind": 3}), json.dumps({**values, "more": 1})):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ArtifactError, match="not a manifest") as caught:
            read_manifest(artifact)
        assert "\n" not in str(caught.value)
