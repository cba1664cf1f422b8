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

from edgedetr.export.search.fp32_blocks import MOST, Request, find_blocks
from edgedetr.export.search.trial import Effect
from edgedetr.export.to_fp16 import export_fp16
from edgedetr.export.transforms.halve import prepared
from edgedetr.export.verify.figures import figures_from_pairs
from edgedetr.export.verify.limits import FP16_LIMITS
from edgedetr.export.verify.matching import Pairs
from edgedetr.graph.wiring import element_types
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
FRAMES = 41  # one detection each: of two looks each has 2.5 %, and 1 - 0.025 ** (1 / 40) = 8.8 %
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
    for frame in range(FRAMES):
        cv2.imwrite(str(folder / f"{frame}.png"), np.full((*HW, 3), GREY, np.uint8))
    return folder


def test_the_block_that_fp16_breaks_stays_fp32_and_no_other(
    onnx_model: Build, images: Path, tmp_path: Path, edgedetr: Run
) -> None:
    path, out = tmp_path / "model.onnx", tmp_path / "model.fp16.onnx"
    onnx.save(grey_model(onnx_model), path)
    given = ("export", "fp16", path, "--images", images)
    assert edgedetr(*given)[0] == 0
    verify = ("verify", path, out, "--images", images, "--max-lost", 0.1)
    status, _, error = edgedetr(*verify)
    assert status == 1
    assert "does not find what" in error
    assert "40 of 40 detections lost" in error
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
        match=r"does not keep 98\.00% of the detections with IoU >= 0\.95, scores within 1e-09 "
        r"with at most 50% of the multiply-accumulates in FP32; at best, with no block in FP32, "
        "3 of 3 detections lost",
    ):
        export_fp16(path, out, request=request)
    assert not out.exists()


def test_limits_need_images(onnx_model: Build, tmp_path: Path, edgedetr: Run) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(grey_model(onnx_model), path)
    status, _, error = edgedetr("export", "fp16", path, "--max-box-error-px", 2)
    assert (status, "need --images DIR" in error) == (2, True)


class Pretended:
    """Answers with score errors that depend on the blocks in FP16, as no real trial would.

    There are two detections: the scores of one are off by half as much as those of the other.
    """

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
        pairs = Pairs(np.zeros(2), np.array([error, error / 2]), np.ones(2), 0)
        return Effect(figures_from_pairs([pairs], 1, 0), pairs=(pairs,))


def kept(onnx_model: Build, **errors: float) -> tuple[list[str], list[set[str]]]:
    trial: Any = Pretended(errors)
    model = grey_model(onnx_model, fragile="")
    blocks = find_blocks(prepared(model, SPEC), trial, FP16_LIMITS)
    return [block.split("/")[-1] for block in blocks], trial.tried


def test_the_costliest_for_its_work_is_kept_first(onnx_model: Build) -> None:
    """``body`` has 64 weights and ``stem`` 24, so that less error costs more in the stem.

    Scores may be off by 0.01. Lost detections cost more than errors without any.
    """
    every = {*LAYERS, "box", "score"}
    blocks, tried = kept(onnx_model, stem=0.008, body=0.009)
    assert blocks == ["stem"]
    assert tried[0] == every
    assert {frozenset(t) for t in tried[1:6]} == {frozenset({b}) for b in every}
    assert tried[6:] == [every - {"stem"}]
    assert kept(onnx_model, stem=0.005, body=0.012)[0] == ["body"]
    assert kept(onnx_model, stem=0.0099, body=0.0101)[0] == ["body"]
    assert kept(onnx_model, stem=0.012, score=0.012)[0] == ["score", "stem"]


def test_a_block_with_more_than_half_of_the_work_is_passed_over(onnx_model: Build) -> None:
    """With all in FP16 both are lost, with the body in FP32 one of two."""
    assert 64 / (24 + 64 + 64) < MOST < (24 + 64) / (24 + 64 + 64)
    with pytest.raises(
        GateError, match=r"at best, with 42\.1% of the .* in FP32, 1 of 2 detections lost"
    ):
        kept(onnx_model, body=0.018, neck=0.016, stem=0.002)
