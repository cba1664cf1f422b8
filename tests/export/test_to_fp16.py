"""What `export_fp16` refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgedetr.export.to_fp16 import export_fp16
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_model_is_never_its_own_output(tiny_onnx: Callable[..., Path]) -> None:
    path = tiny_onnx()
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is the input of the same command"):
        export_fp16(path, path)
    assert path.read_bytes() == before


def test_outputs_that_the_spec_does_not_know(tiny_onnx: Callable[..., Path]) -> None:
    path = tiny_onnx()
    other = ModelSpec((8, 16), ("Car", "Pedestrian"), logits_name="scores")
    with pytest.raises(ArtifactError, match="outputs logits, boxes, its spec wants scores"):
        export_fp16(path, path.with_name("out.onnx"), other)
