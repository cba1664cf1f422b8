"""What each block alone costs in INT8, on a detector whose answers can be worked out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest

from edgedetr.export.search.sensitivity import candidates, sensitivity
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]

HW, CHANNELS = (32, 64), 8  # of `grey_onnx`


@pytest.fixture
def kitti(grey_kitti: Callable[..., Path]) -> Path:
    root: Path = grey_kitti()
    return root


def test_the_block_that_loses_the_boxes_comes_first(
    grey_onnx: Path, kitti: Path, write_grey_stats: Callable[..., Path]
) -> None:
    found = sensitivity(grey_onnx, kitti, 500, write_grey_stats("encoder/fpn"), labelled=True)
    assert found.frames == 3
    assert found.fp32_ap == pytest.approx(100)
    rows = {row.name: row for row in found.rows()}
    assert next(iter(rows)) == "encoder/fpn"
    worst = rows["encoder/fpn"]
    assert worst.ap == 0
    assert worst.ap_drop == pytest.approx(100)
    assert (worst.figures.matched, worst.figures.unmatched) == (0, 3)
    assert worst.layers == ("/net/encoder/fpn/Conv",)
    assert worst.macs == CHANNELS**2 * HW[0] * HW[1]
    others = ["backbone/stem (first conv)", "backbone/body", "encoder/mlp (linear)"]
    assert {rows[name].ap_drop for name in others} == {0.0}
    assert rows["backbone/body"].figures.max_box_error_px == pytest.approx(0, abs=1e-3)


def test_images_without_labels_tell_matched_boxes_only(grey_onnx: Path, kitti: Path) -> None:
    found = sensitivity(grey_onnx, kitti / "training" / "image_2", 2, labelled=False)
    assert (found.frames, found.fp32_ap) == (2, None)
    assert [row.ap_drop for row in found.rows()] == [None] * 4
    assert all(row.figures.matched == 2 for row in found.rows())
    assert "no labels" in found.table()


def test_a_model_that_finds_nothing_cannot_be_measured(
    grey_onnx: Path, kitti: Path, write_grey_stats: Callable[..., Path]
) -> None:
    for label in (kitti / "training" / "label_2").iterdir():
        text = label.read_text(encoding="utf-8").replace("48.00 24.00", "20.00 12.00")
        label.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"AP 0\.0 on 3 labelled frames"):
        sensitivity(grey_onnx, kitti, 500, write_grey_stats(), labelled=True)


def test_candidates_are_blocks_by_kind(grey_onnx: Path) -> None:
    found = [(c.name, c.macs) for c in candidates(onnx.load(grey_onnx))]
    area = HW[0] * HW[1]
    assert found == [
        ("backbone/stem (first conv)", 3 * CHANNELS * area),
        ("backbone/body", CHANNELS**2 * area),
        ("encoder/fpn", CHANNELS**2 * area),
        ("encoder/mlp (linear)", CHANNELS**2 * HW[1]),
    ]
