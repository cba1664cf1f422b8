from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from edgedetr.bench.report.assemble import DataChoice, write_report
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.files import sha256
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WEIGHTS = 2 * 3 * 3 * 3 + 2 * 3 + 2 * 4 + 1  # convolution, logits, boxes, zero
MACS = 2 * 30 * 62 * 27  # two channels of the 32 x 64 input without its border, 3 x 3 x 3 each
KEYS = {
    "name",
    "sha256",
    "precision",
    "ran_on",
    "params_m",
    "gflops",
    "file_mib",
    "ap",
    "ap50",
    "ap50_by_class",
    "kitti_ap40_moderate",
    "latency_ms",
    "model_latency_ms",
    "agreement_with_teacher",
    "ap50_to_teacher",
    "slices",
    "errors",
    "reliability",
}


def read_json(run: Path) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    report: dict[str, Any] = json.loads((run / "report.json").read_text(), parse_constant=refuse)
    return report


def test_figures_are_those_worked_out_by_hand(reported_run: Path) -> None:
    report = read_json(reported_run)
    teacher, student, int8 = report["models"]
    assert all(set(m) == KEYS for m in report["models"])
    assert [m["name"] for m in report["models"]] == ["teacher", "student", "student.int8"]
    assert [m["precision"] for m in report["models"]] == ["fp32", "fp32", "int8"]
    for model in report["models"]:
        assert re.match(r"(onnxruntime|openvino) [\d.]+, ", model["ran_on"])
        assert model["params_m"] == WEIGHTS / 1e6
        assert model["gflops"] == 2 * MACS / 1e9
        assert model["sha256"] == sha256(reported_run / f"{model['name']}.onnx")
        size = (reported_run / f"{model['name']}.onnx").stat().st_size
        assert model["file_mib"] == size / 2**20
    # every object found and first in line; the student finds every car and no pedestrian
    assert (teacher["ap"], teacher["ap50"]) == pytest.approx((1, 1))
    assert (student["ap"], student["ap50"]) == pytest.approx((0.5, 0.5))
    assert student["ap50_by_class"] == {"Car": 1, "Pedestrian": 0, "Cyclist": None}
    # four hits fill recall 0, 1/40, 2/40, 3/40 of KITTI's curve, of which AP40 leaves out the first
    assert teacher["kitti_ap40_moderate"] == {"Car": 7.5, "Pedestrian": 7.5, "Cyclist": None}
    assert student["kitti_ap40_moderate"] == {"Car": 7.5, "Pedestrian": 0, "Cyclist": None}
    # one pair among two detections each: 2 * 1 / (2 + 2)
    assert [m["agreement_with_teacher"] for m in report["models"]] == [1, 0.5, 0.5]
    assert int8["ap50_by_class"] == student["ap50_by_class"]
    # whichever frames are drawn, the student finds the cars and the teacher both
    assert student["ap50_to_teacher"] == {"difference": -0.5, "low": -0.5, "high": -0.5}
    assert teacher["ap50_to_teacher"] is None
    slices = student["slices"]["class"]
    same, all_missed = (
        {"difference": d, "low": d, "high": d} for d in (0, 1)
    )  # whichever frames are drawn
    assert slices["Car"] == {
        "objects": 4,
        "ap50": 1,
        "miss_rate": 0,
        "agreement": 1,
        "missed_to_teacher": same,
    }
    assert slices["Pedestrian"] == {
        "objects": 4,
        "ap50": 0,
        "miss_rate": 1,
        "agreement": 0,
        "missed_to_teacher": all_missed,
    }
    assert slices["Cyclist"]["missed_to_teacher"] is None
    assert teacher["slices"]["class"]["Car"]["missed_to_teacher"] is None
    assert student["slices"]["class"]["Cyclist"]["ap50"] is None
    assert student["slices"]["all"]["all"]["miss_rate"] == 0.5
    assert sum(s["objects"] for s in student["slices"]["brightness"].values()) == 8
    assert "distance" not in student["slices"]  # no label has one
    # four cars with a score of 0.982 are right, four pedestrians with 0.881 are not there
    assert teacher["reliability"]["Car"]["ece"] == pytest.approx(1 - 0.98201, abs=1e-4)
    assert student["reliability"]["Pedestrian"]["ece"] == pytest.approx(0.8808, abs=1e-4)
    assert student["reliability"]["Cyclist"] == {"ece": None, "ranges": []}
    # the pedestrians are missed in every frame, so the first ones are the worst
    assert [w["frame"] for w in report["worst_frames"]] == ["000000", "000001", "000002", "000003"]
    assert report["worst_frames"][0]["missed"] == {"teacher": 0, "student": 1, "student.int8": 1}
    # not one false detection is allowed in four frames, so the pedestrians' score is too low
    assert (student["errors"]["found"], student["errors"]["missed"]) == (4, 4)
    assert student["errors"]["background"] == 0


def test_latency_is_ordered_and_the_network_is_a_part_of_it(reported_run: Path) -> None:
    report = read_json(reported_run)
    assert report["data"]["timed_frames"] == 12  # three times four frames, at least 10
    for model in report["models"]:
        whole, network = model["latency_ms"], model["model_latency_ms"]
        for times in (whole, network):
            assert 0 < times["p50"] <= times["p90"] <= times["p99"]
        assert all(network[p] <= whole[p] for p in ("p50", "p90", "p99"))


def test_report_says_what_was_measured_and_how(run: Path, kitti_root: Path) -> None:
    write_report(run, DataChoice(frames=3), command="edgedetr report tiny")
    report = read_json(run)
    assert report["command"] == "edgedetr report tiny"
    assert report["verdict"] == "passed"
    timed = "is not worth it"  # of models so small, by chance
    assert not [reason for reason in report["reasons"] if timed not in reason]
    assert report["data"] == {
        "root": str(kitti_root),
        "format": "kitti",
        "split": "val",
        "frames": 3,
        "frames_in_split": 4,
        "objects": {"Car": 3, "Pedestrian": 3, "Cyclist": 0},
        "timed_frames": 3,
    }
    (parity,) = report["parity"]
    figures = parity.pop("figures")
    assert parity == {
        "name": "verify.int8.json",
        "passed": True,
        "models": "student.int8.onnx against student.onnx",
        "command": "edgedetr verify student.onnx student.int8.onnx",
        "verdict": "passed",
    }
    assert {k: figures[k] for k in ("matched", "max_box_error_px", "limit_of_iou")} == {
        "matched": 200,
        "max_box_error_px": 0.25,
        "limit_of_iou": 0.8,
    }
    assert report["training"] == {
        "steps": 2,
        "last_evaluation": {"step": 2, "ap": 0.25, "ap50": 0.5},
    }
    assert [o["artifact"] for o in report["origins"]] == ["student.int8.onnx"]
    assert report["machine"]["cores"] >= 1
    assert any(v.startswith("onnxruntime==") for v in report["versions"])
    assert report["missing"] == []


def test_a_bare_student_still_gets_a_report_that_says_what_is_missing(
    run: Path, kitti_root: Path
) -> None:
    for name in (
        "teacher.onnx",
        "student.int8.onnx",
        "student.int8.onnx.manifest.json",
        "log.jsonl",
        "metrics.json",
        "verify.int8.json",
    ):
        (run / name).unlink()
    report = write_report(run, DataChoice(root=kitti_root))
    assert [m.name for m in report.models] == ["student"]
    assert report.models[0].agreement_with_teacher is None
    missing = " ".join(read_json(run)["missing"])
    for name in ("teacher.onnx", "log.jsonl", "quantized", "verify"):
        assert name in missing
        assert name in (run / "report.html").read_text()


def test_teacher_may_lie_elsewhere(run: Path, tmp_path: Path) -> None:
    (run / "teacher.onnx").rename(tmp_path / "big.onnx")
    report = write_report(run, DataChoice(), teacher=tmp_path / "big.onnx")
    assert report.models[0].name == "teacher"
    assert report.models[0].ap50 == pytest.approx(1)


@pytest.mark.slow
def test_a_teacher_checkpoint_is_exported_first(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[Path] = []

    def export(checkpoint: Path, output: Path) -> None:
        assert checkpoint == tmp_path / "big.safetensors"
        shutil.copy(run / "teacher.onnx", output)
        exported.append(output)

    monkeypatch.setattr("edgedetr.export.to_onnx.export_onnx", export)
    report = write_report(run, DataChoice(), teacher=tmp_path / "big.safetensors")
    assert [m.name for m in report.models] == ["teacher", "student", "student.int8"]
    assert not exported[0].exists()


def test_coco_data_has_no_kitti_figures(run: Path, kitti_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "coco"
    root.mkdir()
    (kitti_root / "training/image_2").rename(root / "val")
    names = ("Car", "Pedestrian", "Cyclist")
    content = {
        "images": [
            {"id": i, "file_name": f"{i:06}.png", "width": 128, "height": 64} for i in (1, 2)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 0, "bbox": [16, 8, 40, 40], "iscrowd": 0}
        ],
    }
    (root / "val.json").write_text(json.dumps(content))
    write_report(run, DataChoice(root))
    report = read_json(run)
    assert report["data"]["format"] == "coco"
    assert report["data"]["objects"] == {"Car": 1, "Pedestrian": 0, "Cyclist": 0}
    assert [m["kitti_ap40_moderate"] for m in report["models"]] == [None] * 3
    assert [m["ap50"] for m in report["models"]] == pytest.approx([1.0] * 3)
    assert "KITTI" not in (run / "report.html").read_text()


def test_frames_without_any_object_give_a_report(run: Path, kitti_root: Path) -> None:
    for path in (kitti_root / "training/label_2").iterdir():
        path.write_text("")
    write_report(run, DataChoice())
    assert [m["ap"] for m in read_json(run)["models"]] == [None, None, None]
    assert "no object of the classes" in (run / "report.html").read_text()


def test_a_converted_model_that_cannot_run_is_left_out_and_named(run: Path) -> None:
    (run / "student.fp16.onnx").write_bytes(b"no model")
    report = write_report(run, DataChoice())
    assert [m.name for m in report.models] == ["teacher", "student", "student.int8"]
    assert "student.fp16.onnx is left out" in " ".join(report.missing)


def refused(kind: type[Exception], run: Path) -> str:
    """Check that a report is refused with one line and that nothing was written."""
    with pytest.raises(kind) as caught:
        write_report(run, DataChoice())
    assert not list(run.glob("report.*"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_models_of_other_classes_are_refused(run: Path, save_model: Callable[..., None]) -> None:
    spec = ModelSpec((32, 64), ("Car", "Bus", "Tram"))
    save_model(run / "teacher.onnx", [((0, 0, 9, 9), 0, 1.0)], spec)
    assert "Bus" in refused(ArtifactError, run)


def test_unknown_data_is_a_usage_error(run: Path) -> None:
    (run / "metrics.json").unlink()
    assert "--data" in refused(UsageError, run)
