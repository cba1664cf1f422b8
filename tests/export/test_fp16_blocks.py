"""Which blocks stay in FP32 for their measured error, on a detector that is worked out by hand.

Each frame is one grey, which every layer hands on; the one box is the grey times a constant. One
layer adds 4000 and takes it away again: FP16 has no fractions there, and then there is no box.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pytest

from edgedetr.calib.value_ranges import element_types
from edgedetr.export.fp16_blocks import MOST, Request, find_blocks, used
from edgedetr.export.parity import figures_from_pairs
from edgedetr.export.parity_report import FP16_LIMITS
from edgedetr.export.to_fp16 import export_fp16, prepared
from edgedetr.export.trial import Effect
from edgedetr.runtime.errors import GateError
from edgedetr.runtime.manifest import read_manifest
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Build = Callable[..., onnx.ModelProto]
    Run = Callable[..., tuple[int, str, str]]

HW = (32, 64)
SPEC = ModelSpec(HW, ("Car",), resize="stretch")
GREY, CHANNELS, LAYERS = 127, 8, ("stem", "body", "neck")


def grey_model(onnx_model: Build, fragile: str = "body") -> onnx.ModelProto:
    """Three convolutions, of which ``fragile`` is not one for FP16, and a box."""
    nodes: list[tuple[Any, ...]] = []
    name = "images"
    for layer in LAYERS:
        scope = f"/net/backbone/{layer}"
        nodes.append(("Conv", f"{scope}/Conv", [name, f"w_{layer}"], f"{layer}_0", {}))
        name = f"{layer}_0"
        if layer == fragile:
            nodes += [
                ("Add", f"{scope}/Add", [name, "much"], f"{layer}_1", {}),
                ("Sub", f"{scope}/Sub", [f"{layer}_1", "much"], f"{layer}_2", {}),
            ]
            name = f"{layer}_2"
    nodes += [
        ("ReduceMean", "/net/backbone/neck/Mean", [name], "mean", {"axes": [2, 3], "keepdims": 0}),
        ("Unsqueeze", "/net/backbone/neck/Unsqueeze", ["mean", "one"], "row", {}),
        ("MatMul", "/net/box/MatMul", ["row", "w_box"], "boxes", {}),
        ("MatMul", "/net/score/MatMul", ["row", "w_score"], "logits", {}),
    ]
    box = np.array([0.5, 0.5, 0.5, 0.5]) / (GREY / 255)
    weights = {f"w_{n}": np.full((CHANNELS, CHANNELS, 1, 1), 1 / CHANNELS) for n in LAYERS}
    return onnx_model(
        nodes,
        weights
        | {
            "w_stem": np.full((CHANNELS, 3, 1, 1), 1 / 3),
            "w_box": np.tile(box / CHANNELS, (CHANNELS, 1)),
            "w_score": np.full((CHANNELS, 1), 8 / CHANNELS),
            "much": [4000.0],
            "one": np.array([1]),
        },
        inputs={"images": (1, 3, *HW)},
        outputs=["logits", "boxes"],
        spec=SPEC,
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for frame in range(3):
        cv2.imwrite(str(folder / f"{frame}.png"), np.full((*HW, 3), GREY, np.uint8))
    return folder


def test_the_block_that_fp16_breaks_stays_fp32_and_no_other(
    onnx_model: Build, images: Path, tmp_path: Path, edgedetr: Run
) -> None:
    path, out = tmp_path / "model.onnx", tmp_path / "model.fp16.onnx"
    onnx.save(grey_model(onnx_model), path)
    given = ("export", "fp16", path, "--images", images)
    assert edgedetr(*given)[0] == 0
    verify = ("verify", path, out, "--images", images)
    status, _, error = edgedetr(*verify)
    assert status == 1
    assert "have no partner" in error
    status, text, _ = edgedetr(*given, "--max-score-error", 0.005)
    assert status == 0
    assert "57.9% of 0.000 GMACs in FP16" in text
    assert "error 3); for their error: backbone/body" in text
    assert edgedetr(*verify)[0] == 0
    model = onnx.load(out)
    types = element_types(model)
    layers = {n.name: types[n.output[0]] for n in model.graph.node if n.op_type == "Conv"}
    single = [name for name, kind in layers.items() if kind == onnx.TensorProto.FLOAT]
    assert single == ["/net/backbone/body/Conv"]
    manifest = read_manifest(out)
    assert "for their error: backbone/body" in manifest.summary
    assert "--max-score-error 0.005" in manifest.command


def test_nothing_is_kept_where_fp16_holds_the_limits(
    onnx_model: Build, images: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(grey_model(onnx_model, fragile=""), path)
    request = Request(images, 2, FP16_LIMITS)
    share = export_fp16(path, tmp_path / "half.onnx", request=request)
    assert (share.kept, share.half_macs) == ((), share.macs)
    assert "error" not in share.islands


def test_what_holds_no_limit_is_not_written(
    onnx_model: Build, images: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "model.onnx", tmp_path / "half.onnx"
    onnx.save(grey_model(onnx_model, fragile=""), path)
    request = Request(images, 3, replace(FP16_LIMITS, score_error=1e-9))
    with pytest.raises(
        GateError,
        match=r"does not hold 2 px, scores within 1e-09 and 1\.00% .* at most 50% of the multiply-"
        r"accumulates in FP32; the nearest keeps no block: 3 frames: 3 matched",
    ):
        export_fp16(path, out, request=request)
    assert not out.exists()


def test_limits_need_images(onnx_model: Build, tmp_path: Path, edgedetr: Run) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(grey_model(onnx_model), path)
    status, _, error = edgedetr("export", "fp16", path, "--max-box-error-px", 2)
    assert (status, "want --images DIR" in error) == (2, True)


class Pretended:
    """Answers with a score error that depends on the blocks in FP16, as no real trial would."""

    def __init__(self, errors: dict[str, float]) -> None:
        self.errors = errors
        self.tried: list[set[str]] = []

    def effect(self, model: onnx.ModelProto, name: str) -> Effect:
        del name
        types = element_types(model)
        layers = [n for n in model.graph.node if n.op_type in {"Conv", "MatMul"}]
        half = {n.name.split("/")[-2] for n in layers if types[n.output[0]] == 10}
        self.tried.append(half)
        error = sum(self.errors.get(block, 0.0) ** 2 for block in half) ** 0.5
        return Effect(replace(figures_from_pairs([], 1, 0), max_score_error=error))


def kept(onnx_model: Build, **errors: float) -> tuple[list[str], list[set[str]]]:
    trial: Any = Pretended(errors)
    model = grey_model(onnx_model, fragile="")
    blocks = find_blocks(prepared(model, SPEC), trial, FP16_LIMITS)
    return [block.split("/")[-1] for block in blocks], trial.tried


def test_the_costliest_for_its_work_is_kept_first(onnx_model: Build) -> None:
    """``body`` has 64 weights and ``stem`` 24, so that less error costs more in the stem."""
    every = {*LAYERS, "box", "score"}
    blocks, tried = kept(onnx_model, stem=0.004, body=0.0045)
    assert blocks == ["stem"]
    assert tried[0] == every
    assert {frozenset(t) for t in tried[1:6]} == {frozenset({b}) for b in every}
    assert tried[6:] == [every - {"stem"}]
    assert kept(onnx_model, stem=0.0025, body=0.006)[0] == ["body"]
    assert kept(onnx_model, stem=0.006, score=0.006)[0] == ["score", "stem"]


def test_a_block_with_more_than_half_of_the_work_is_passed_over(onnx_model: Build) -> None:
    assert 64 / (24 + 64 + 64) < MOST < (24 + 64) / (24 + 64 + 64)
    with pytest.raises(GateError, match=r"the nearest keeps 42\.1% of"):
        kept(onnx_model, body=0.009, neck=0.008, stem=0.001)


def test_the_share_of_a_limit_is_that_of_the_worst_figure() -> None:
    figures = figures_from_pairs([], 1, 0)
    assert used(figures, FP16_LIMITS) == 0
    assert used(replace(figures, max_box_error_px=1.0), FP16_LIMITS) == 0.5
    worse = replace(figures, max_box_error_px=1.0, max_score_error=0.02, unmatched_share=0.005)
    assert used(worse, FP16_LIMITS) == 4
