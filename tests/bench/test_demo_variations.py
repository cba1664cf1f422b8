"""The record of the demo's variations, from a run's folder to README's lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgedetr.runtime.cli import edgedetr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def variations(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, imported as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import demo_variations

    yield demo_variations
    for name in ("demo_variations", "demo_section"):
        sys.modules.pop(name, None)


def model(name: str, ap50: float, p50: float, ratio: float) -> dict[str, Any]:
    return {
        "name": name,
        "precision": "fp32",
        "ran_on": "onnxruntime 1.31.1, CPU",
        "params_m": 0.81,
        "gflops": 0.23,
        "file_mib": 3.4,
        "ap": ap50 / 2,
        "ap50": ap50,
        "kitti_ap40_moderate": {"Car": 100 * ap50},
        "agreement_with_teacher": 0.65,
        "latency_ms": {"p50": p50, "p90": p50, "p99": 2 * p50},
        "latency_ratio": ratio,
    }


def run(seconds: float, ap50: float, *, status: int = 0, models: bool = True) -> dict[str, Any]:
    made = [model("teacher", 0.85, 8, 1), model("student", ap50, 4, 0.5)] if models else []
    return {
        "seconds": seconds,
        "training_seconds": seconds - 60,
        "cores_worth": 1.9,
        "exit_status": status,
        "int8_coverage": 0.75 if models else None,
        "student_sha256": f"{ap50}",
        "models": made,
    }


def test_a_summary_is_the_median_and_the_range_of_what_was_made(variations: ModuleType) -> None:
    runs = [run(300, 0.70), run(400, 0.72), run(330, 0.60), run(900, 0.1, status=2, models=False)]
    found = variations.summary(runs)
    assert (found["runs"], found["green"], found["different_students"]) == (4, 3, 4)
    assert found["seconds"] == {"median": 365, "min": 300, "max": 900, "runs": 4}
    assert found["int8_coverage"]["runs"] == 3
    student = found["models"]["student"]
    assert student["ap50"] == {"median": 0.70, "min": 0.60, "max": 0.72, "runs": 3}
    assert student["latency_ratio"] == {"median": 0.5, "min": 0.5, "max": 0.5, "runs": 3}
    assert student["kitti_car"]["median"] == 70


def test_readme_has_medians_with_their_ranges(variations: ModuleType) -> None:
    from demo_section import COLUMNS, demo_section

    runs = [run(300, 0.70), run(400, 0.72), run(330, 0.60, status=2)]
    found = {
        "summary": variations.summary(runs),
        "runs": dict(enumerate(runs)),
        "machine": {"processor": "AMD EPYC", "cores": 2},
    }
    lines = demo_section(found)
    text = " ".join(lines)
    assert "330 (300 to 400) s after the install, 270 (240 to 340) s of them training" in text
    assert "3 runs that differ in seed, instruction set or threads, of which 2 passed" in text
    assert "INT8 has 75 % of the multiply-accumulates" in text
    teacher, student = (line.strip("| ").split(" | ") for line in lines[-2:])
    assert len(teacher) == len(student) == len(COLUMNS)
    assert (teacher[6], student[6]) == ("0.850", "0.700 (0.600 to 0.720)")


def test_every_variation_is_another_one(variations: ModuleType) -> None:
    names = [variation.name for variation in variations.VARIATIONS]
    assert len(set(names)) == len(names) >= 10
    assert {"seed0", "seed0-aten-avx2", "seed1-omp-1"} <= set(names)


def test_what_a_run_left_is_read_and_what_it_did_not_make_is_none(
    variations: ModuleType, tmp_path: Path, tiny_onnx: Callable[..., Path]
) -> None:
    nothing = variations._found(tmp_path)
    assert nothing["verdict"] is None
    assert nothing["models"] == []
    report = {
        "verdict": "passed",
        "reasons": [],
        "models": [model("teacher", 0.85, 8, 1), model("student", 0.7, 4, 0)],
        "origins": [{"artifact": "student.int8.onnx", "summary": "76 nodes; 75.4% of 0.1 GMACs"}],
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "metrics.json").write_text(json.dumps({"metrics": {"seconds": 281.58}}))
    image, path = tmp_path / "a.png", tiny_onnx()
    cv2.imwrite(str(image), np.full((8, 16, 3), 255, np.uint8))
    out = tmp_path / "verify.int8.json"
    line = ["verify", str(path), str(path), "--images", str(tmp_path), "--json", str(out)]
    assert CliRunner().invoke(edgedetr, line).exit_code == 0
    found = variations._found(tmp_path)
    assert found["int8_coverage"] == pytest.approx(0.754)
    assert found["training_seconds"] == 281.6
    assert found["gates"] == {"verify.int8": "passed"}
    assert found["models"][1]["latency_ratio"] == 0.5


def test_a_second_start_goes_on_and_refuses_a_record_of_other_settings(
    variations: ModuleType, tmp_path: Path
) -> None:
    path, settings = tmp_path / "record.json", {"frames": 900, "train": ""}
    assert variations._before(path, settings) == {}
    variations._write(path, settings, {"seed0": run(300, 0.7)})
    assert variations._before(path, settings) == {"seed0": run(300, 0.7)}
    with pytest.raises(SystemExit, match="--no-resume"):
        variations._before(path, {"frames": 40, "train": ""})
