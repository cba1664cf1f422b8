"""The command that exports a checkpoint: its checks, and wrong requests in one line each."""

import json
import shutil

import cv2
import numpy as np
import onnx
import pytest

pytest.importorskip("torch")

from edgedetr.export import to_onnx
from edgedetr.export.transforms.simplify import Simplified
from edgedetr.export.transforms.textures import textured_frames
from edgedetr.runtime.files import sha256
from edgedetr.runtime.manifest import read_manifest

pytestmark = pytest.mark.slow


def moved(model, *_):
    """Shift every box to the right by a hundredth of the input's width."""
    for node in model.graph.node:
        node.output[:] = ["before" if name == "boxes" else name for name in node.output]
    step = np.array([0.01, 0, 0, 0], np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(step, "step"))
    model.graph.node.append(onnx.helper.make_node("Add", ["before", "step"], ["boxes"]))
    return Simplified(model)


def test_the_command(edgedetr, checkpoint, tmp_path, monkeypatch):
    """It goes on without a simplifier that fails, and checks on the images that are given."""
    copy = tmp_path / "s.safetensors"
    shutil.copy(checkpoint, copy)
    (tmp_path / "images").mkdir()
    for number, frame in enumerate(textured_frames((64, 96), 10)):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), frame)
    monkeypatch.setattr(to_onnx, "simplify", lambda model: Simplified(model, "it crashed"))
    status, out, error = edgedetr("export", "onnx", copy, "--images", tmp_path / "images",
                                  "--json", tmp_path / "f.json")  # fmt: skip
    assert (status, error) == (0, "Not simplified: it crashed\n")
    assert out.startswith(f"{tmp_path / 's.onnx'}: ")
    assert json.loads((tmp_path / "f.json").read_text("utf-8"))["parity"]["matched"] == 160
    assert "MiB; equal to s.safetensors on 8 frames: 160 matched, 0 unmatched" in out
    assert read_manifest(tmp_path / "s.onnx").command.startswith("edgedetr export onnx ")


def test_a_model_that_finds_something_else_is_not_written(
    edgedetr, checkpoint, exported, tmp_path, monkeypatch
):
    path = tmp_path / "s.onnx"
    shutil.copy(exported[0], path)
    before = sha256(path)
    monkeypatch.setattr(to_onnx, "simplify", moved)
    status, _, error = edgedetr("export", "onnx", checkpoint, "-o", path)
    assert (status, error.count("\n")) == (1, 1)
    assert error.startswith(f"edgedetr: {path} was not written: it does not find what ")
    assert "max box error 0.96" in error
    assert sha256(path) == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "output", "status", "message"),
    [
        (None, "o.onnx", 1, "no checkpoint"),
        (b"", "o.onnx", 1, "is no readable safetensors file"),
        (b"\x10" + 7 * b"\0" + b'{"a":{}}        ', "o.onnx", 1, "is no readable safetensors file"),
        (b"", "o.pt", 2, "is not the name of an ONNX file; give one that ends in .onnx"),
    ],
)
def test_a_wrong_request_is_one_line(edgedetr, tmp_path, content, output, status, message):
    path = tmp_path / "c.safetensors"
    if content is not None:
        path.write_bytes(content)
    before = list(tmp_path.iterdir())
    found, _, error = edgedetr("export", "onnx", path, "-o", tmp_path / output)
    assert found == status
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == before
