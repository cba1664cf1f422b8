"""How long the layers of a graph take in each library of the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from edgedetr.export.search.layer_times import layer_times
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("library", ["openvino", "onnxruntime"])
def test_a_layer_is_found_by_its_name(
    library: str, onnx_model: Callable[..., onnx.ModelProto], tmp_path: Path
) -> None:
    """What a library fuses bears the name of one of its nodes, or of what it makes."""
    pytest.importorskip(library)
    spec = ModelSpec((64, 64), ("Car",))
    rng = np.random.default_rng(0)
    model = onnx_model(
        [
            ("Conv", "/body/Conv", ["images", "w"], "a", {"pads": [1, 1, 1, 1]}),
            ("Relu", "/body/Relu", ["a"], "b", {}),
            ("Conv", "/neck/Conv", ["b", "w2"], "c", {"pads": [1, 1, 1, 1]}),
        ],
        {"w": rng.normal(size=(16, 3, 3, 3)), "w2": rng.normal(size=(16, 16, 3, 3))},
        inputs={"images": (1, 3, 64, 64)},
        outputs=["c"],
        classes=1,
        spec=spec,
    )
    onnx.save(model, tmp_path / "model.onnx")
    found = layer_times(library, tmp_path / "model.onnx", spec)  # type: ignore[arg-type]
    names = {name for of_kernel, _ in found for name in of_kernel}
    assert names & {"/body/Conv", "/body/Relu", "b"}
    assert names & {"/neck/Conv", "c"}
    assert all(taken_ms >= 0 for _, taken_ms in found)
    assert sum(taken_ms for _, taken_ms in found) > 0
