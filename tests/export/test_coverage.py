"""Which blocks cost what in INT8, on a detector whose answers can be worked out by hand.

Each frame is one grey; every layer hands the grey on, and the one box is the grey times a constant.
A layer whose range is given far too wide rounds the grey to zero, and then there is no box.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgedetr.calib.stats import CalibrationStats, TensorRange, read_stats
from edgedetr.export import coverage
from edgedetr.export.coverage import Request, choose_coverage, find_coverage, read_coverage
from edgedetr.export.exact import exact_graph
from edgedetr.export.graph import int8_macs
from edgedetr.export.parity import figures_from_pairs
from edgedetr.export.sensitivity import candidates, sensitivity
from edgedetr.export.trial import Effect, Trial, labelled_scenes, unlabelled_scenes
from edgedetr.runtime.errors import ArtifactError, DataError, GateError
from edgedetr.runtime.files import sha256
from edgedetr.runtime.manifest import read_manifest
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]

HW = (32, 64)
SPEC = ModelSpec(HW, ("Car", "Pedestrian", "Cyclist"), resize="stretch")
CAR = (16.0, 8.0, 48.0, 24.0)
GREY = 127
LABEL = "Car 0.00 0 0.00 16.00 8.00 48.00 24.00 1.5 1.6 3.9 1.0 1.5 9.0 0.0\n"
FINE, COARSE = GREY / 255, 1000 * GREY / 255
CHANNELS = 8
LAYERS = ("backbone/stem", "backbone/body", "encoder/fpn")


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    root = tmp_path / "kitti"
    for name in ("image_2", "label_2"):
        (root / "training" / name).mkdir(parents=True)
    (root / "ImageSets").mkdir()
    for frame in range(4):
        image = np.full((*HW, 3), GREY, np.uint8)
        cv2.imwrite(str(root / f"training/image_2/{frame:06d}.png"), image)
        (root / f"training/label_2/{frame:06d}.txt").write_text(LABEL, encoding="utf-8")
    for split, frames in {"train": (0,), "val": (1, 2, 3)}.items():
        text = "".join(f"{frame:06d}\n" for frame in frames)
        (root / f"ImageSets/{split}.txt").write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Three convolutions, the last on as many channels as the others, and a linear layer."""
    box = np.array([32 / 64, 16 / 32, 32 / 64, 16 / 32]) / FINE
    arrays = {
        "w_stem": np.full((CHANNELS, 3, 1, 1), 1 / 3),
        "w_body": np.full((CHANNELS, CHANNELS, 1, 1), 1 / CHANNELS),
        "w_fpn": np.full((CHANNELS, CHANNELS, 1, 1), 1 / CHANNELS),
        "w_mlp": np.full((CHANNELS, CHANNELS), 1 / CHANNELS),
        "w_box": np.tile(box / CHANNELS, (CHANNELS, 1)),
        "logits": np.array([[[4.0, -20.0, -20.0]]]),
    }
    nodes = [
        helper.make_node("Conv", ["images", "w_stem"], ["a"], "/net/backbone/stem/Conv"),
        helper.make_node("Conv", ["a", "w_body"], ["b"], "/net/backbone/body/Conv"),
        helper.make_node("Conv", ["b", "w_fpn"], ["c"], "/net/encoder/fpn/Conv"),
        helper.make_node("ReduceMean", ["c"], ["d"], "/net/encoder/Mean", axes=[2], keepdims=0),
        helper.make_node("Transpose", ["d"], ["e"], "/net/encoder/Turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["e", "w_mlp"], ["f"], "/net/encoder/mlp/MatMul"),
        helper.make_node("ReduceMean", ["f"], ["g"], "/net/encoder/Mean_1", axes=[1]),
        helper.make_node("MatMul", ["g", "w_box"], ["boxes"], "/net/bbox_embed/MatMul"),
        helper.make_node("Identity", ["fixed_logits"], ["logits"], "/net/class_embed/Identity"),
    ]
    constants = [
        numpy_helper.from_array(v.astype(np.float32), "fixed_logits" if k == "logits" else k)
        for k, v in arrays.items()
    ]
    image = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, (1, 3, *HW))
    answers = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, 1, size))
        for name, size in (("logits", 3), ("boxes", 4))
    ]
    graph = helper.make_graph(nodes, "grey", [image], answers, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(made, {METADATA_KEY: SPEC.to_json()})
    path = tmp_path / "model.onnx"
    onnx.save(made, path)
    return path


@pytest.fixture
def write_stats(model: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write ranges for the model; those of the layers named are far too wide."""

    def write(*coarse: str) -> Path:
        tensors = {"backbone/stem": "images", "backbone/body": "a", "encoder/fpn": "b", "mlp": "e"}
        stats = CalibrationStats(
            model=model.name,
            model_sha256=sha256(model),
            spec=SPEC,
            method="max",
            percentile=99.99,
            frames=1,
            frames_sha256="0",
            ranges=tuple(
                TensorRange(tensor, amax, amax)
                for layer, tensor in tensors.items()
                for amax in [COARSE if layer in coarse else FINE]
            ),
        )
        path = tmp_path / "stats.json"
        stats.write(path)
        return path

    return write


def test_the_block_that_loses_the_boxes_comes_first(
    model: Path, kitti: Path, write_stats: Callable[..., Path]
) -> None:
    found = sensitivity(model, kitti, 500, write_stats("encoder/fpn"), labelled=True)
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


def test_images_without_labels_tell_matched_boxes_only(model: Path, kitti: Path) -> None:
    found = sensitivity(model, kitti / "training" / "image_2", 2, labelled=False)
    assert (found.frames, found.fp32_ap) == (2, None)
    assert [row.ap_drop for row in found.rows()] == [None] * 4
    assert all(row.figures.matched == 2 for row in found.rows())
    assert "no labels" in found.table()


def test_a_model_that_finds_nothing_cannot_be_measured(
    model: Path, kitti: Path, write_stats: Callable[..., Path]
) -> None:
    for label in (kitti / "training" / "label_2").iterdir():
        label.write_text(LABEL.replace("48.00 24.00", "20.00 12.00"), encoding="utf-8")
    with pytest.raises(DataError, match=r"AP on 3 labelled frames is 0.0"):
        sensitivity(model, kitti, 500, write_stats(), labelled=True)


def test_the_largest_coverage_leaves_the_bad_block_out(
    model: Path, kitti: Path, write_stats: Callable[..., Path], tmp_path: Path, edgedetr: Run
) -> None:
    stats, output = write_stats("encoder/fpn"), tmp_path / "model.int8.onnx"
    status, out, _ = edgedetr(
        *("export", "qdq", model, stats, "-o", output, "--max-ap-drop", 0.5, "--data", kitti)
    )
    assert status == 0
    inside = {"/net/backbone/stem/Conv", "/net/backbone/body/Conv", "/net/encoder/mlp/MatMul"}
    quantized = onnx.load(output)
    assert int8_macs(quantized).keys() == inside
    record = read_coverage(coverage.coverage_path(output))
    assert record.is_worth_it
    assert record.fp32_ap == pytest.approx(100)
    assert record.ap == pytest.approx(100)
    assert record.chosen == ("backbone/stem (first conv)", "backbone/body", "encoder/mlp (linear)")
    assert f"{record.coverage:.1%} of the multiply-accumulates" in out
    assert [step.kept for step in record.curve] == [True, True, True, False, False, False, True]
    assert record.curve[-2].tried == "all convolutions but the first"
    assert record.curve[-1].tried == "all that was chosen, the rest in FP16"
    assert [step.rest for step in record.curve] == 6 * ["fp32"] + ["fp16"]
    assert record.rest == "fp16"
    assert "in INT8, the rest in FP16" in out
    assert "--exclude" in read_manifest(output).command


def test_int8_that_is_not_worth_it_is_said(
    model: Path, kitti: Path, write_stats: Callable[..., Path], tmp_path: Path, edgedetr: Run
) -> None:
    stats = write_stats("backbone/body", "encoder/fpn", "backbone/stem")
    output = tmp_path / "model.int8.onnx"
    status, _, err = edgedetr(
        *("export", "qdq", model, stats, "-o", output, "--max-ap-drop", 0.5, "--data", kitti)
    )
    assert status == 1
    assert "INT8 is not worth it" in err
    assert "wanted at least 20%" in err
    assert not output.exists()
    assert not read_coverage(coverage.coverage_path(output)).is_worth_it


class Pretended:
    """Answers with an AP that depends on what is in INT8, as no real trial would."""

    ap = 50.0

    def __init__(self, drops: Callable[[set[str]], float], of_fp16: float = 0.0) -> None:
        self.drops, self.of_fp16 = drops, of_fp16

    def __len__(self) -> int:
        return 3

    def effect(self, model: onnx.ModelProto, name: str) -> Effect:
        del name
        drop = self.drops({layer.split("/")[-2] for layer in int8_macs(model)})
        drop += self.of_fp16 * bool(exact_graph(model).half)
        figures = figures_from_pairs([], len(self), 0)
        return Effect(figures, self.ap - drop, drop)


def search(
    model: Path, stats: Path, drops: Callable[[set[str]], float]
) -> tuple[tuple[str, ...], list[str]]:
    """Return what was chosen and what was tried."""
    found = find_coverage(onnx.load(model), read_stats(stats), Pretended(drops), 0.5)  # type: ignore[arg-type]
    return tuple(c.block for c in found.chosen), [step.tried for step in found.steps]


def test_the_answer_is_measured_with_the_rest_that_is_asked_for(
    model: Path, write_stats: Callable[..., Path]
) -> None:
    """Each layer loses 0.1 points and FP16 0.35: both convolutions hold 0.5 beside FP32 only."""
    stats, network = read_stats(write_stats()), onnx.load(model)
    trial: Any = Pretended(lambda inside: 0.1 * len(inside), of_fp16=0.35)
    beside_fp32 = find_coverage(network, stats, trial, 0.5)
    found = find_coverage(network, stats, trial, 0.5, "fp16")
    assert [c.block for c in beside_fp32.chosen] == ["backbone/body", "encoder/fpn"]
    assert found.chosen == beside_fp32.chosen[:1]
    assert found.best == found.steps[-1]
    assert found.best.ap_drop == pytest.approx(0.45)
    assert [(s.rest, s.kept) for s in found.steps[-2:]] == [("fp16", False), ("fp16", True)]
    assert found.steps[-1].tried == "without encoder/fpn"
    assert "the rest in FP16, within an AP drop of 0.5 points: +0.45" in found.describe()
    trial.of_fp16 = 0.6
    lost = find_coverage(network, stats, trial, 0.5, "fp16")
    assert (lost.chosen, lost.best, lost.is_worth_it) == ((), None, False)


def test_effects_are_measured_together(model: Path, write_stats: Callable[..., Path]) -> None:
    """Each block alone loses 0.1 points, two convolutions 1."""

    def drops(inside: set[str]) -> float:
        return 1.0 if {"body", "fpn"} <= inside else 0.1 * len(inside)

    chosen, _ = search(model, write_stats(), drops)
    assert len({"backbone/body", "encoder/fpn"} & set(chosen)) == 1


def test_what_was_left_out_gets_a_second_chance(
    model: Path, write_stats: Callable[..., Path]
) -> None:
    """Beside the stem alone ``body`` costs too much, with ``fpn`` as well it does not."""
    costs = {("stem",): 0.0, ("body",): 0.1, ("body", "stem"): 0.6}

    def drops(inside: set[str]) -> float:
        return costs.get(tuple(sorted(inside)), 0.2)

    chosen, tried = search(model, write_stats(), drops)
    assert chosen == ("backbone/stem", "encoder/fpn", "backbone/body")
    assert tried == [
        "backbone/stem (first conv)",
        "backbone/body",
        "encoder/fpn",
        "backbone/body",
    ]


def test_layers_beside_the_convolutions_are_tried_only_where_they_pay(
    model: Path, write_stats: Callable[..., Path]
) -> None:
    def drops(inside: set[str]) -> float:
        return 0.1 * len(inside - {"stem", "mlp"}) + 0.3 * len(inside & {"stem", "mlp"})

    chosen, tried = search(model, write_stats(), drops)
    assert set(chosen) == {"backbone/body", "encoder/fpn"}
    assert tried == ["backbone/body", "encoder/fpn"]


def test_candidates_are_blocks_by_kind(model: Path) -> None:
    found = [(c.name, c.macs) for c in candidates(onnx.load(model))]
    area = HW[0] * HW[1]
    assert found == [
        ("backbone/stem (first conv)", 3 * CHANNELS * area),
        ("backbone/body", CHANNELS**2 * area),
        ("encoder/fpn", CHANNELS**2 * area),
        ("encoder/mlp (linear)", CHANNELS**2 * HW[1]),
    ]


def test_frames_are_preprocessed_once_and_removed(model: Path, kitti: Path) -> None:
    scenes = labelled_scenes(kitti, SPEC.class_names).spread(2)
    assert (len(scenes.images), len(scenes.truths or ())) == (2, 2)
    with Trial(onnx.load(model), SPEC, scenes) as trial:
        for image in scenes.images:
            image.unlink()
        assert trial.effect(onnx.load(model), "again").ap_drop == 0
    with pytest.raises(DataError):
        unlabelled_scenes(kitti / "nowhere")


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.coverage.json"
    path.write_text(json.dumps({"int8": "x"}), encoding="utf-8")
    with pytest.raises(ArtifactError, match="no measured coverage"):
        read_coverage(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "wants STATS and --data KITTI_ROOT"),
        (["--data", "kitti", "--exclude", "x"], "no --include or --exclude"),
    ],
)
def test_options_that_do_not_go_together(
    model: Path, write_stats: Callable[..., Path], edgedetr: Run, options: list[str], message: str
) -> None:
    status, _, err = edgedetr("export", "qdq", model, write_stats(), "--max-ap-drop", 0.5, *options)
    assert status == 2
    assert message in err


def test_sensitivity_writes_a_table_and_json(
    model: Path, kitti: Path, tmp_path: Path, edgedetr: Run
) -> None:
    out = tmp_path / "found.json"
    status, text, _ = edgedetr("calib", "sensitivity", model, "--data", kitti, "--json", out)
    assert status == 0
    assert "AP 100.00 in FP32" in text
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["frames"] == 3
    assert {row["name"] for row in record["blocks"]} >= {"backbone/body", "encoder/fpn"}
    status, _, err = edgedetr("calib", "sensitivity", model)
    assert status == 2
    assert "give either --data KITTI_ROOT or --images DIR" in err


def test_stats_of_another_model_are_refused(
    model: Path, kitti: Path, write_stats: Callable[..., Path], tmp_path: Path
) -> None:
    stats = write_stats()
    changed = onnx.load(model)
    changed.doc_string = "changed"
    onnx.save(changed, model)
    with pytest.raises(ArtifactError, match="calibration was made with"):
        choose_coverage(model, stats, tmp_path / "x.onnx", Request(kitti, 3, 0.5))
    assert not list(tmp_path.glob("*.coverage.json"))


def test_the_limit_of_worth_is_a_share(
    model: Path,
    kitti: Path,
    write_stats: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coverage, "WORTH", 0.9)
    with pytest.raises(GateError, match="wanted at least 90%"):
        choose_coverage(
            model, write_stats("encoder/fpn"), tmp_path / "x.onnx", Request(kitti, 3, 0.5)
        )
