"""Read and check the files of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgedetr.bench.report.contents import LogRecord, Origin, ParityResult, TrainingLog
from edgedetr.bench.report.devices import read_devices
from edgedetr.export.search.coverage_record import read_coverage
from edgedetr.export.verify.record import read_verify_record
from edgedetr.graph.checksum import model_sha256
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import MOST_LOG_BYTES, read_bytes, read_json
from edgedetr.runtime.manifest import manifest_path, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.bench.report.devices import DeviceRun
    from edgedetr.export.search.coverage_record import CoverageRecord

_PLACE = {"kind", "step", "epoch"}
"""Keys of a log line that say where it was taken."""


@dataclass(frozen=True)
class RunFolder:
    """The files of a run.

    Attributes:
        path: The folder.
        students: ``student.onnx`` first, then ``student.*.onnx``.
        config: Settings of the training run, or None.
        training: Its log, or None.
        parity: Every ``verify.*.json``.
        coverage: Every ``*.coverage.json``.
        devices: What every ``device*.json`` says of the models.
        origins: Every manifest.
    """

    path: Path
    students: tuple[Path, ...]
    config: dict[str, Any] | None
    training: TrainingLog | None
    parity: tuple[ParityResult, ...]
    coverage: tuple[CoverageRecord, ...]
    devices: tuple[DeviceRun, ...]
    origins: tuple[Origin, ...]

    @property
    def missing(self) -> list[str]:
        """List what is missing and how to get it, a sentence each."""
        student = self.students[0]
        lacks = {
            "The run has no log.jsonl: the student was not trained here, so there are no training "
            "curves (edgedetr distill train CONFIG).": self.training is None,
            "The run has no quantized student (edgedetr calib collect, then edgedetr export qdq "
            f"{student}).": not self.coverage and not any(self.path.glob("student.int8*.onnx")),
            "The run has no verify.*.json: the exported models were not compared with the "
            f"checkpoint (edgedetr verify A {student}).": not self.parity,
        }
        return [text for text, lacking in lacks.items() if lacking]


def read_run_folder(path: Path) -> RunFolder:
    """Read everything but the models.

    Raises:
        ArtifactError: If there is no student, or a file is damaged or not what its manifest says.
    """
    student = path / "student.onnx"
    if not student.is_file():
        raise ArtifactError(
            f"{student} is missing; make it with: edgedetr export onnx {path}/student.safetensors"
        )
    artifacts = [p for p in sorted(path.iterdir()) if manifest_path(p).is_file()]
    origins = tuple(_read_origin(p) for p in artifacts)
    return RunFolder(
        path=path,
        students=(student, *sorted(path.glob("student.*.onnx"))),
        config=_read_config(path / "metrics.json"),
        training=_read_log(path / "log.jsonl"),
        parity=tuple(_read_parity(p) for p in sorted(path.glob("verify.*.json"))),
        coverage=tuple(_read_coverage(p) for p in sorted(path.glob("*.coverage.json"))),
        devices=read_devices(path),
        origins=origins,
    )


def _read_config(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    config = _json_object(path).get("config")
    data = config.get("data") if isinstance(config, dict) else None
    settings = {"root": None, **data} if isinstance(data, dict) else {}
    texts = [settings.get(key, "") for key in ("root", "format", "val_split", "untrained")]
    if not settings or not all(isinstance(text, str) for text in texts):
        raise ArtifactError(
            f"{path} holds no config of a run; train again, or give --data and remove it"
        )
    return config


def _read_log(path: Path) -> TrainingLog | None:
    """Read a log; a last line that was cut off by a kill is left out."""
    if not path.is_file():
        return None
    steps: list[LogRecord] = []
    evaluations: list[LogRecord] = []
    try:
        lines = read_bytes(path, MOST_LOG_BYTES).splitlines()
    except ValueError as error:
        raise ArtifactError(f"{path}: not the log of a training run: {error}") from error
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            step = int(values["step"])
            figures = {k: float(v) for k, v in values.items() if k not in _PLACE}
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            if number == len(lines):
                break
            raise ArtifactError(
                f"{path}:{number}: not a line of a training log: {error}"
            ) from error
        kept = evaluations if values.get("kind") == "evaluation" else steps
        kept.append(LogRecord(step, figures))
    return TrainingLog(tuple(steps), tuple(evaluations)) if steps else None


def _read_parity(path: Path) -> ParityResult:
    """Read what ``edgedetr verify`` wrote; it must be about the models that lie beside it."""
    record = read_verify_record(path)
    _check_beside(path, record.candidate, record.candidate_sha256, "edgedetr verify")
    _check_beside(path, record.reference, record.reference_sha256, "edgedetr verify")
    return ParityResult(
        name=path.name,
        passed=record.passed,
        models=f"{record.candidate} against {record.reference}",
        command=record.command,
        figures=record.figures,
        verdict=record.verdict,
    )


def _read_coverage(path: Path) -> CoverageRecord:
    """Read a search for INT8 coverage; it must be about the model that lies beside it."""
    record = read_coverage(path)
    _check_beside(path, record.model, record.model_sha256, "edgedetr export qdq --max-ap-drop")
    return record


def _check_beside(path: Path, name: str, wanted: str, command: str) -> None:
    """Require that a model, where it lies beside a record, is the one that the record is about."""
    model = path.parent / name
    if model.is_file() and model_sha256(model) != wanted:
        raise ArtifactError(
            f"{path} is about another {name} than the one beside it; run {command} again"
        )


def _read_origin(artifact: Path) -> Origin:
    manifest = read_manifest(artifact)
    return Origin(
        artifact=manifest.artifact,
        kind=manifest.kind,
        sha256=manifest.sha256,
        command=manifest.command,
        parents=tuple(p.name for p in manifest.parents),
        versions=manifest.versions,
        summary=manifest.summary,
    )


def _json_object(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not a readable JSON file: {error}; make it again") from error
