"""What goes into INT8: all that passes by default, or as much as a search finds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgedetr.calib.frames import frames_sha256
from edgedetr.calib.stats import read_stats
from edgedetr.export.search import int8_choice, int8_coverage
from edgedetr.export.search.coverage_record import coverage_path, read_coverage
from edgedetr.export.search.int8_choice import Request, choose_coverage
from edgedetr.graph.macs import int8_macs
from edgedetr.runtime.errors import ArtifactError, DataError, GateError
from edgedetr.runtime.manifest import manifest_path, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]

CONVOLUTIONS = {"/net/backbone/body/Conv", "/net/encoder/fpn/Conv"}


@pytest.fixture
def kitti(grey_kitti: Callable[..., Path]) -> Path:
    root: Path = grey_kitti()
    return root


def test_the_largest_coverage_leaves_the_bad_block_out(
    grey_onnx: Path,
    kitti: Path,
    write_grey_stats: Callable[..., Path],
    tmp_path: Path,
    edgedetr: Run,
) -> None:
    stats, output = write_grey_stats("encoder/fpn"), tmp_path / "model.int8.onnx"
    status, out, _ = edgedetr(
        *("export", "qdq", grey_onnx, stats, "-o", output, "--max-ap-drop", 0.5, "--data", kitti)
    )
    assert status == 0
    inside = {"/net/backbone/stem/Conv", "/net/backbone/body/Conv", "/net/encoder/mlp/MatMul"}
    quantized = onnx.load(output)
    assert int8_macs(quantized).keys() == inside
    record = read_coverage(coverage_path(output))
    assert record.is_worth_it
    assert record.fp32_ap == pytest.approx(100)
    assert record.ap == pytest.approx(100)
    assert record.chosen == ("backbone/stem (first conv)", "backbone/body", "encoder/mlp (linear)")
    assert f"{record.coverage:.1%} of the multiply-accumulates" in out
    assert [step.kept for step in record.curve] == [True, True, True, False, False, False, True]
    assert record.curve[-2].tried == "all convolutions but the first"
    assert record.curve[-1].tried == "all chosen candidates, the rest in FP16"
    assert [step.rest for step in record.curve] == 6 * ["fp32"] + ["fp16"]
    assert record.rest == "fp16"
    assert "in INT8, the rest in FP16" in out
    assert "--exclude" in read_manifest(output).command


def test_int8_that_is_not_worth_it_is_refused(
    grey_onnx: Path,
    kitti: Path,
    write_grey_stats: Callable[..., Path],
    tmp_path: Path,
    edgedetr: Run,
) -> None:
    stats = write_grey_stats("backbone/body", "encoder/fpn", "backbone/stem")
    output = tmp_path / "model.int8.onnx"
    status, _, err = edgedetr(
        *("export", "qdq", grey_onnx, stats, "-o", output, "--max-ap-drop", 0.5, "--data", kitti)
    )
    assert status == 1
    assert "INT8 is not worth it" in err
    assert "wanted at least 20%" in err
    assert not output.exists()
    assert not read_coverage(coverage_path(output)).is_worth_it


def test_without_splits_ap_is_of_frames_that_calibration_has_not_seen(
    grey_onnx: Path, kitti: Path, write_grey_stats: Callable[..., Path], tmp_path: Path
) -> None:
    for listing in (kitti / "ImageSets").iterdir():
        listing.unlink()
    stats = write_grey_stats()
    seen = frames_sha256([kitti / "training" / "image_2" / "000000.png"])
    replace(read_stats(stats), frames_sha256=seen).write(stats)
    output = tmp_path / "x.onnx"
    choose_coverage(grey_onnx, stats, output, Request(kitti, 9, 0.5))
    assert read_coverage(coverage_path(output)).frames == 3
    replace(read_stats(stats), frames_sha256="0").write(stats)
    choose_coverage(grey_onnx, stats, output, Request(kitti, 9, 0.5))
    assert read_coverage(coverage_path(output)).frames == 4


def test_one_frame_bounds_no_drop_of_ap(
    grey_onnx: Path, kitti: Path, write_grey_stats: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"1 labelled frame cannot .* give at least 1 more"):
        choose_coverage(grey_onnx, write_grey_stats(), tmp_path / "x.onnx", Request(kitti, 1, 0.5))


def test_ranges_that_differ_from_calibration_are_named_beside_a_drop_of_ap(
    grey_onnx: Path, kitti: Path, write_grey_stats: Callable[..., Path], tmp_path: Path
) -> None:
    stats = write_grey_stats("encoder/fpn")  # its range is a thousand times too wide
    found = choose_coverage(grey_onnx, stats, tmp_path / "x.onnx", Request(kitti, 3, 0.5))
    assert found.lines[0].startswith("Warning: the largest values of 1 activation in held-out")
    assert "b 0.498 (498); calibrate on frames like these" in found.lines[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "needs STATS and --data ROOT"),
        (["--data", "kitti", "--exclude", "x"], "no --include or --exclude"),
    ],
)
def test_options_that_do_not_go_together(
    grey_onnx: Path,
    write_grey_stats: Callable[..., Path],
    edgedetr: Run,
    options: list[str],
    message: str,
) -> None:
    status, _, err = edgedetr(
        "export", "qdq", grey_onnx, write_grey_stats(), "--max-ap-drop", 0.5, *options
    )
    assert status == 2
    assert message in err


def test_stats_of_another_model_are_refused(
    grey_onnx: Path, kitti: Path, write_grey_stats: Callable[..., Path], tmp_path: Path
) -> None:
    stats = write_grey_stats()
    changed = onnx.load(grey_onnx)
    changed.doc_string = "changed"
    onnx.save(changed, grey_onnx)
    with pytest.raises(ArtifactError, match="calibration was made with"):
        choose_coverage(grey_onnx, stats, tmp_path / "x.onnx", Request(kitti, 3, 0.5))
    assert not list(tmp_path.glob("*.coverage.json"))


def test_the_limit_of_worth_is_a_share(
    grey_onnx: Path,
    kitti: Path,
    write_grey_stats: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (int8_coverage, int8_choice):
        monkeypatch.setattr(module, "WORTH", 0.9)
    with pytest.raises(GateError, match="wanted at least 90%"):
        choose_coverage(
            grey_onnx, write_grey_stats("encoder/fpn"), tmp_path / "x.onnx", Request(kitti, 3, 0.5)
        )


@pytest.fixture
def gate(
    grey_onnx: Path, write_grey_stats: Callable[..., Path], tmp_path: Path, edgedetr: Run
) -> Callable[..., tuple[int, str, str]]:
    """Runs ``export qdq --gate`` with layers whose ranges are far too wide; output beforehand."""

    def run(root: Path, *coarse: str, frames: int = 200) -> tuple[int, str, str]:
        stats, output = write_grey_stats(*coarse), tmp_path / "model.int8.onnx"
        for path in (output, manifest_path(output), coverage_path(output)):
            path.write_text("stale", encoding="utf-8")
        options = ("--gate", "--data", root, "--frames", frames)
        return edgedetr("export", "qdq", grey_onnx, stats, "-o", output, *options)

    return run


def test_where_the_default_passes_the_gate_nothing_is_searched_for(
    gate: Run, kitti: Path, tmp_path: Path
) -> None:
    status, out, _ = gate(kitti)
    assert status == 0
    output = tmp_path / "model.int8.onnx"
    assert out.count("\n") == 1
    assert out.startswith(f"{output}: ")
    assert int8_macs(onnx.load(output)).keys() == CONVOLUTIONS
    assert not coverage_path(output).exists()


def test_a_bad_block_stays_float_and_is_named(gate: Run, kitti: Path, tmp_path: Path) -> None:
    status, out, _ = gate(kitti, "encoder/fpn")
    assert status == 0
    output = tmp_path / "model.int8.onnx"
    inside = {"/net/backbone/stem/Conv", "/net/backbone/body/Conv", "/net/encoder/mlp/MatMul"}
    assert int8_macs(onnx.load(output)).keys() == inside
    record = read_coverage(coverage_path(output))
    assert (record.max_ap_drop, record.fp32_ap, record.ap) == (None, None, None)
    assert record.is_worth_it
    assert not record.nothing_to_compare
    assert record.chosen == ("backbone/stem (first conv)", "backbone/body", "encoder/mlp (linear)")
    assert record.blocks[0].name == "encoder/fpn"
    assert f"coverage.json: {record.said}\n" in out
    assert "within the gate (10% of the detections lost, IoU >= 0.8, scores within 0.1)" in out
    assert "encoder/fpn stays float: alone in INT8 it loses 100.00% of the detections\n" in out
    assert out.count("stays float") == 1


def test_where_nothing_passes_the_gate_int8_is_not_worth_it(
    gate: Run, kitti: Path, tmp_path: Path
) -> None:
    status, _, error = gate(kitti, "backbone/body", "encoder/fpn", "backbone/stem", "mlp")
    assert status == 1
    assert "INT8 is not worth it for " in error
    assert "no block holds the gate" in error
    assert error.endswith("use FP16\n")
    assert error.count("\n") == 1
    output = tmp_path / "model.int8.onnx"
    record = read_coverage(coverage_path(output))
    assert (record.is_worth_it, record.coverage, record.chosen) == (False, 0.0, ())
    assert record.said in error
    assert {step.lost_share for step in record.curve} == {1.0}
    assert not output.exists()
    assert not manifest_path(output).exists()


def test_a_model_that_finds_nothing_has_nothing_to_compare(
    gate: Run, grey_onnx: Path, kitti: Path, tmp_path: Path
) -> None:
    model = onnx.load(grey_onnx)
    (logits,) = (t for t in model.graph.initializer if t.name == "fixed_logits")
    weak = np.full((1, 1, 3), -4, np.float32)
    logits.CopyFrom(numpy_helper.from_array(weak, "fixed_logits"))
    onnx.save(model, grey_onnx)
    status, _, error = gate(kitti)
    assert status == 1
    assert "was not quantized: " in error
    assert "the model has no detection above 0.3 in 1 frame, so that nothing can be" in error
    assert error.count("\n") == 1
    output = tmp_path / "model.int8.onnx"
    record = read_coverage(coverage_path(output))
    assert (record.nothing_to_compare, record.is_worth_it, record.curve) == (True, False, ())
    assert record.said in error
    assert not output.exists()
    assert not manifest_path(output).exists()


def test_a_drop_of_ap_wants_a_model_that_finds_something(
    grey_onnx: Path, kitti: Path, write_grey_stats: Callable[..., Path], tmp_path: Path
) -> None:
    for label in (kitti / "training" / "label_2").iterdir():
        text = label.read_text(encoding="utf-8").replace("48.00 24.00", "20.00 12.00")
        label.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"AP 0\.0 on 3 labelled frames"):
        choose_coverage(grey_onnx, write_grey_stats(), tmp_path / "x.onnx", Request(kitti, 3, 0.5))
    assert not list(tmp_path.glob("*.coverage.json"))


@pytest.mark.parametrize(("train", "status"), [(41, 0), (40, 1)])
def test_the_gate_looks_at_frames_that_calibration_has_not_seen(
    gate: Run, grey_kitti: Callable[..., Path], train: int, status: int
) -> None:
    """The stats are of one frame, the first, which is broken here; 40 others are enough."""
    root = grey_kitti(train, 1)
    (root / "training" / "image_2" / "000000.png").write_bytes(b"no image")
    found, _, error = gate(root)
    assert found == status
    assert ("000000.png: not a whole PNG or JPEG image" in error) == bool(status)


def test_the_frames_of_the_gate_are_of_the_training_split(gate: Run, kitti: Path) -> None:
    for name in ("000001", "000002", "000003"):
        (kitti / "training" / "image_2" / f"{name}.png").write_bytes(b"no image")
        (kitti / "training" / "label_2" / f"{name}.txt").unlink()
    assert gate(kitti)[0] == 0


def test_the_gate_and_a_drop_of_ap_are_two_questions(
    grey_onnx: Path, kitti: Path, write_grey_stats: Callable[..., Path], edgedetr: Run
) -> None:
    given = ("export", "qdq", grey_onnx, write_grey_stats(), "--data", kitti, "--gate")
    status, _, error = edgedetr(*given, "--max-ap-drop", 0.5)
    assert (status, "give either --gate or --max-ap-drop" in error) == (2, True)
    status, _, error = edgedetr(*given, "--exclude", "x")
    assert (status, "--gate needs STATS and --data ROOT" in error) == (2, True)
