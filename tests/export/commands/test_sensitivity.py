"""The table and the record of the command that measures blocks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]


def test_sensitivity_writes_a_table_and_json(
    grey_onnx: Path, grey_kitti: Callable[..., Path], tmp_path: Path, edgedetr: Run
) -> None:
    out = tmp_path / "found.json"
    given = ("--data", grey_kitti(), "--json", out)
    status, text, _ = edgedetr("calib", "sensitivity", grey_onnx, *given)
    assert status == 0
    assert "AP 100.00 in FP32" in text
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["frames"] == 3
    assert {row["name"] for row in record["blocks"]} >= {"backbone/body", "encoder/fpn"}
    status, _, err = edgedetr("calib", "sensitivity", grey_onnx)
    assert status == 2
    assert "give either --data ROOT or --images DIR" in err
