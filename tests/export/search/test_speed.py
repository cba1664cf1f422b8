"""How fast INT8 is beside the float models, and which layers save time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest

from edgedetr.calib.stats import read_stats
from edgedetr.export.search import speed as measuring
from edgedetr.export.search.sensitivity import candidates
from edgedetr.export.search.speed import Speed, Timer, library_of
from edgedetr.export.transforms.quantize import quantize
from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("few_channels")


def test_a_speed_is_enough_or_not() -> None:
    slow = Speed("ONNX Runtime", 10.3, 10.0, 10.1, 0.97, 1.2)
    assert not slow.is_enough
    assert slow.describe() == "0.97x in ONNX Runtime: 10.3 ms, FP32 10.0, FP16 10.1; wanted 1.2x"
    assert Speed("OpenVINO", 5.0, 10.0, 10.1, 2.0, 1.2).is_enough


def test_an_engine_is_not_timed_here() -> None:
    assert library_of("onnxruntime") == "onnxruntime"
    with pytest.raises(UsageError, match="--for openvino or --for onnxruntime"):
        library_of("tensorrt")


def test_a_graph_is_timed_beside_the_float_ones(
    grey_onnx: Path, write_grey_stats: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "TURNS", 2)
    model, stats = onnx.load(grey_onnx), read_stats(write_grey_stats())
    with Timer(model, stats, "onnxruntime", 0.001) as timer:
        found = timer.speed(quantize(model, stats))
    assert found.library == "ONNX Runtime"
    assert min(found.int8_ms, found.fp32_ms, found.fp16_ms, found.speedup) > 0
    assert found.is_enough


def test_the_time_of_a_layer_counts_what_rounds_its_input(
    grey_onnx: Path, write_grey_stats: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: ``body`` takes 5 ms, and in INT8 2 and 1 for its input; ``fpn`` 1 and 1.5."""
    float_times = [(("/net/backbone/body/Conv",), 5.0), (("/net/encoder/fpn/Conv",), 1.0)]
    int8_times = [
        (("a_quantized_Q",), 1.0),
        (("fused", "/net/backbone/body/Conv"), 2.0),
        (("/net/encoder/fpn/Conv",), 1.5),
        (("of nobody",), 9.0),
    ]
    monkeypatch.setattr(
        measuring,
        "layer_times",
        lambda _library, path, _spec: int8_times if path.stem == "int8" else float_times,
    )
    model, stats = onnx.load(grey_onnx), read_stats(write_grey_stats())
    found = {c.name: c for c in candidates(model)}
    with Timer(model, stats, "onnxruntime", 1.0) as timer:
        saved = timer.saved_ms(quantize(model, stats), list(found.values()))
    assert saved[found["backbone/body"]] == pytest.approx(2.0)
    assert saved[found["encoder/fpn"]] == pytest.approx(-0.5)
    assert saved[found["backbone/stem (first conv)"]] == 0.0
