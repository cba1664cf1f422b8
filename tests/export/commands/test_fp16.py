"""The FP16 file that the command writes, with its manifest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from edgedetr.runtime.manifest import read_manifest
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec, spec_from_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Build = Callable[..., onnx.ModelProto]


SPEC = ModelSpec((4, 4), ("Car",))
IMAGES = {"images": (1, 3, 4, 4)}
W = np.random.default_rng(0).normal(size=(3, 3, 1, 1))


@pytest.fixture
def path(tmp_path: Path, onnx_model: Build) -> Path:
    model = onnx_model(
        [
            ("Conv", "stem", ["images", "w"], "x", {}),
            ("Reshape", "rows", ["x", "of_boxes"], "f", {}),
            ("MatMul", "class_head", ["f", "head"], "logits", {}),
            ("Sigmoid", "to_boxes", ["f"], "boxes", {}),
        ],
        {"w": W, "of_boxes": [1, 12, 4], "head": np.ones((4, 1))},
        inputs=IMAGES,
        outputs=["logits", "boxes"],
        spec=SPEC,
    )
    file = tmp_path / "student.onnx"
    onnx.save(model, file)
    return file


def test_the_command_writes_a_model_and_its_manifest(path: Path, edgedetr: Any) -> None:
    figures = path.with_name("figures.json")
    code, out, _ = edgedetr("export", "fp16", path, "--json", figures)
    assert (code, "2 of 4 nodes and 100.0%" in out) == (0, True)
    written = path.with_name("student.fp16.onnx")
    manifest = read_manifest(written)
    assert (manifest.kind, manifest.spec, manifest.parents[0].name) == ("fp16", SPEC, path.name)
    assert manifest.command == f"edgedetr export fp16 {path} --json {figures}"
    found = json.loads(figures.read_text("utf-8"))
    assert (found["nodes"], found["float_nodes"], found["islands"]) == (2, 4, {"boxes": 2})
    assert "FP32: 2 nodes (boxes 2)" in manifest.summary
    props = {p.key: p.value for p in onnx.load(written).metadata_props}
    assert spec_from_json(props[METADATA_KEY], "") == SPEC
    assert "onnxruntime==" in props["edgedetr.versions"]
