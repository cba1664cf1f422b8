"""What lies in a run's folder is read and checked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from edgedetr.bench.report.run_folder import read_run_folder
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_whole_run_is_read(run: Path) -> None:
    found = read_run_folder(run)
    assert [p.name for p in found.students] == ["student.onnx", "student.int8.onnx"]
    assert found.config is not None
    assert found.config["methods"] == ["clock"]
    assert found.training is not None
    assert [r.figures["loss"] for r in found.training.steps] == [4.0, 2.0]
    assert [(r.step, r.figures["ap50"]) for r in found.training.evaluations] == [(2, 0.5)]
    assert [p.models for p in found.parity] == ["student.int8.onnx against student.onnx"]
    assert [o.artifact for o in found.origins] == ["student.int8.onnx"]
    assert found.missing == []


def test_a_bare_student_misses_log_int8_and_verification(run: Path) -> None:
    for path in run.iterdir():
        if path.name != "student.onnx":
            path.unlink()
    found = read_run_folder(run)
    assert (found.config, found.training, found.parity) == (None, None, ())
    assert [text.split(" (")[0].split(":")[0] for text in found.missing] == [
        "The run has no log.jsonl",
        "The run has no quantized student",
        "The run has no verify.*.json",
    ]


def test_no_student_is_an_error(run: Path) -> None:
    (run / "student.onnx").unlink()
    with pytest.raises(ArtifactError, match="edgedetr export onnx"):
        read_run_folder(run)


def test_a_model_that_does_not_match_its_manifest_is_refused(
    run: Path, save_model: Callable[..., None]
) -> None:
    save_model(run / "student.int8.onnx", [((0, 0, 9, 9), 0, 1.0)])
    with pytest.raises(ArtifactError, match="manifest"):
        read_run_folder(run)


def test_a_parity_check_of_another_model_is_refused(run: Path) -> None:
    path = run / "verify.int8.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "candidate_sha256": "0" * 64}))
    with pytest.raises(ArtifactError, match=r"another student\.int8\.onnx"):
        read_run_folder(run)


@pytest.mark.parametrize("name", ["log.jsonl", "verify.int8.json", "metrics.json"])
def test_damaged_file_is_named(run: Path, name: str) -> None:
    (run / name).write_text('{"step": \n' * 3)
    with pytest.raises(ArtifactError, match=name):
        read_run_folder(run)


def test_log_line_cut_off_by_a_kill_is_left_out(run: Path) -> None:
    with (run / "log.jsonl").open("a") as log:
        log.write('{"kind": "step", "step": 2, "ep')
    training = read_run_folder(run).training
    assert training is not None
    assert [r.step for r in training.steps] == [0, 1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.json", '{"config": 5}'),
        ("metrics.json", '{"config": {"data": 5}}'),
        ("metrics.json", '{"config": {"data": {}}}'),
        ("metrics.json", '{"config": {"data": {"root": 5}}}'),
        ("metrics.json", '{"config": {"data": {"root": "data", "val_split": 5}}}'),
        ("metrics.json", "[" * 90_000),
        ("log.jsonl", '{"kind": "step", "step": 1e999}\n{"step": 1}\n'),
        ("log.jsonl", "[" * 90_000 + "\nx\n"),
        ("log.jsonl", "\xff\nx\n"),
        ("student.int8.onnx.coverage.json", "[" * 90_000),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, text):
    (tmp_path / "student.onnx").write_bytes(b"")
    (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(ArtifactError, match=name):
        read_run_folder(tmp_path)
