"""The file of an engine shrinks with its types, where weights outweigh kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("tensorrt_rtx")

from edgedetr.calib.collect import collect
from edgedetr.export.engine.options import EngineOptions
from edgedetr.export.to_engine import export_engine
from edgedetr.export.to_fp16 import export_fp16
from edgedetr.export.to_onnx import export_onnx
from edgedetr.export.to_qdq import export_qdq
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from pathlib import Path

SPEC = ModelSpec((128, 256), ("Car", "Pedestrian", "Cyclist"))
"""Small: the sizes of weights and of kernels' source do not hang on it."""


def engine_bytes(path: Path) -> int:
    """Build an engine for one GPU; return the size of its file."""
    output = path.with_suffix(".engine")
    options = EngineOptions(compute_capabilities=("8.6",))
    export_engine(path, output, options, backend="tensorrt_rtx")
    return output.stat().st_size


@pytest.mark.slow
def test_fp16_and_int8_engines_of_an_edge_model_are_smaller(
    settled_model: Any, calibration_images: list[Path], tmp_path: Path
) -> None:
    """RT-DETR-R18, whose weights are random: no size hangs on their values."""
    from edgedetr.distill.weights.checkpoint import save_model

    model = settled_model("rt_detr", preset="r18", spec=SPEC)
    checkpoint, path = tmp_path / "m.safetensors", tmp_path / "m.onnx"
    half, int8 = tmp_path / "m.fp16.onnx", tmp_path / "m.int8.onnx"
    save_model(checkpoint, model, command="a test")
    export_onnx(checkpoint, path)
    export_fp16(path, half)
    collect(path, calibration_images).write(tmp_path / "m.calib.json")
    export_qdq(path, tmp_path / "m.calib.json", int8)
    full, halved, quantized = (engine_bytes(model) for model in (path, half, int8))
    assert full / halved >= 1.8
    assert full / quantized >= 2.2
