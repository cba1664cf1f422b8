"""A checkpoint runs as it is: exported once, into the user's cache."""

import shutil

import cv2
import numpy as np
import pytest

from edgedetr.export import checkpoint_cache
from edgedetr.export.checkpoint_cache import exported
from edgedetr.export.to_onnx import PACKAGES
from edgedetr.runtime.errors import GateError, UsageError
from edgedetr.runtime.hub import cache_folder
from edgedetr.runtime.manifest import read_manifest, write_manifest
from edgedetr.runtime.spec import ModelSpec


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A checkpoint, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "teacher.safetensors"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def exports(tiny_onnx, monkeypatch):
    """The checkpoints that were exported; each becomes the small model."""
    made = []

    def export(given, output, *, command):
        shutil.copy(tiny_onnx(), output)
        spec = ModelSpec((8, 16), ("Car", "Pedestrian"))
        write_manifest(output, kind="onnx", command=command, spec=spec, parents=[given])
        made.append(given)

    monkeypatch.setattr("edgedetr.export.to_onnx.export_onnx", export)
    return made


@pytest.fixture
def photo(tmp_path):
    """A white photo, in which the small model finds a car."""
    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), np.full((20, 40, 3), 255, np.uint8))
    return path


def test_a_checkpoint_finds_objects_in_one_photo(edgedetr, checkpoint, exports, photo, tmp_path):
    command = ("detect", checkpoint, "--images", photo, "--out", tmp_path / "found")
    status, out, error = edgedetr(*command)
    assert (status, len(exports)) == (0, 1)
    assert out.startswith(f"{tmp_path / 'found'}: 1 frame, p50 ")
    lines = [line for line in error.splitlines() if "exported" in line]
    assert len(lines) == 1
    assert f"{checkpoint} is exported to {cache_folder('exported')}" in lines[0]
    assert (tmp_path / "found" / "photo.txt").read_text().startswith("Car ")
    assert (tmp_path / "found" / "overlays" / "photo.png").is_file()
    status, _, error = edgedetr(*command)
    assert (status, len(exports), "exported" in error) == (0, 1, False)


def test_a_checkpoint_runs_on_a_stream(edgedetr, checkpoint, exports, photo):
    status, out, _ = edgedetr("run", checkpoint, "--source", photo.parent, "--rate", 100)
    assert (status, exports) == (0, [checkpoint])
    assert out.startswith("teacher.safetensors: ")


def test_a_damaged_entry_is_made_again(checkpoint, exports):
    made = exported(checkpoint)
    made.write_bytes(made.read_bytes()[:-9])
    assert exported(checkpoint) == made
    assert len(exports) == 2
    assert read_manifest(made).artifact == "teacher.onnx"
    made.with_name("teacher.onnx.manifest.json").unlink()
    assert exported(checkpoint) == made
    assert len(exports) == 3


def test_other_weights_and_other_versions_are_other_entries(checkpoint, exports, monkeypatch):
    first = exported(checkpoint)
    checkpoint.write_bytes(b"changed")
    second = exported(checkpoint)
    monkeypatch.setattr("edgedetr.runtime.manifest.version", lambda _: "99")
    third = exported(checkpoint)
    assert len({first, second, third}) == len(exports) == 3
    assert {p.name for p in cache_folder("exported").iterdir()} == {
        p.parent.name for p in (first, second, third)
    }


def test_a_failed_export_leaves_nothing(checkpoint, monkeypatch):
    def fail(*_, **__):
        raise GateError("it does not find what the checkpoint finds")

    monkeypatch.setattr("edgedetr.export.to_onnx.export_onnx", fail)
    with pytest.raises(GateError):
        exported(checkpoint)
    assert list(cache_folder("exported").iterdir()) == []


def test_an_entry_stands_for_every_version_that_exports():
    assert checkpoint_cache.PACKAGES == PACKAGES


def test_where_nothing_can_export_one_line_says_so(edgedetr, checkpoint, photo, monkeypatch):
    command = ("detect", checkpoint, "--images", photo, "--out", checkpoint.parent / "found")
    monkeypatch.setattr("edgedetr.export.cli.CONVERTERS", {})
    status, _, error = edgedetr(*command)
    assert status == 1
    assert "which this installation cannot export; run edgedetr export onnx" in error
    monkeypatch.setattr(checkpoint_cache, "PACKAGES", ("edgedetr", "a-package-that-is-not-there"))
    with pytest.raises(UsageError, match=r"a-package-that-is-not-there to be exported: pip inst"):
        exported(checkpoint)


def test_the_cache_is_the_user_s(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert cache_folder("exported") == tmp_path / ".cache" / "edgedetr" / "exported"
