"""The contents of a report, apart from its layout."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.bench.report.devices import DeviceRun
    from edgedetr.bench.report.error_kinds import ErrorKinds
    from edgedetr.bench.report.intervals import Interval
    from edgedetr.bench.report.reliability import Reliability
    from edgedetr.bench.report.slices import Slice
    from edgedetr.bench.report.worst_frames import FrameErrors, WorstFrame
    from edgedetr.export.search.coverage_record import CoverageRecord
    from edgedetr.runtime.timing import Latency
    from edgedetr.runtime.types import Detections

Word = Literal["passed", "failed", "undecided", "not compared"]
"""Verdicts of gates; ``not compared`` where there was nothing to compare, which is no failure."""


@dataclass(frozen=True)
class Verdict:
    """The joint verdict of all gates of a run.

    Attributes:
        word: The worst verdict of a gate.
        reasons: Why, and what else a reader must know of the gates, a sentence each.
    """

    word: Word
    reasons: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether no gate failed or was left undecided."""
        return self.word not in {"failed", "undecided"}


@dataclass(frozen=True, eq=False)
class Curves:
    """What the charts show of one model.

    Attributes:
        precision: Each class's precision at IoU 0.5 and COCO's 101 recall points, (K, 101); NaN
            for a class that has no object to find.
        latency_ms: End-to-end time of each timed frame, (F,).
        model_latency_ms: The network's part of it, (F,).
        detections: What was found in each evaluated frame.
        errors: How many errors are in each.
    """

    precision: NDArray[np.float64]
    latency_ms: NDArray[np.float64]
    model_latency_ms: NDArray[np.float64]
    detections: tuple[Detections, ...]
    errors: FrameErrors


@dataclass(frozen=True, eq=False)
class ModelReport:
    """One column of the comparison.

    Attributes:
        name: File name without ``.onnx``, for example ``student.int8``.
        sha256: Hash of all its bytes, see `edgedetr.graph.checksum.model_sha256`.
        precision: ``fp32``, ``fp16`` or ``int8``.
        ran_on: Library, version and device, the fastest here, and how it was chosen.
        params_m: Weights in millions: see `edgedetr.bench.report.model_facts.count_weights`.
        gflops: Twice the multiply-accumulates of convolutions and matrix products for one frame,
            in units of 1e9.
        file_mib: Size of the file.
        ap: COCO AP in [0, 1].
        ap50: COCO AP at IoU 0.5, in [0, 1].
        ap50_by_class: The same of each class.
        kitti_ap40_moderate: KITTI's AP40 of the 2-D box by class, per cent; None for other data.
        latency: From uint8 frame to detections.
        model_latency: The network alone.
        agreement_with_teacher: In [0, 1], see `edgedetr.bench.report.agreement`; None where there
            is no teacher.
        ap50_to_teacher: How far AP50 is from the teacher's, with its 95 % interval; None where
            there is no teacher, and for the teacher.
        slices: Accuracy by what objects are like.
        errors: How many errors of each kind it makes.
        reliability: How far its scores can be believed, in all and by class.
        curves: What the charts show; no part of the JSON.
    """

    name: str
    sha256: str
    precision: str
    ran_on: str
    params_m: float
    gflops: float
    file_mib: float
    ap: float
    ap50: float
    ap50_by_class: dict[str, float]
    kitti_ap40_moderate: dict[str, float] | None
    latency: Latency
    model_latency: Latency
    agreement_with_teacher: float | None
    ap50_to_teacher: Interval | None
    slices: tuple[Slice, ...]
    errors: ErrorKinds
    reliability: tuple[Reliability, ...]
    curves: Curves


@dataclass(frozen=True)
class ParityResult:
    """What one ``edgedetr verify`` found.

    Attributes:
        name: File name of its JSON.
        passed: Whether the gate held.
        models: The two models: ``student.int8.onnx against student.onnx``.
        command: What made it.
        figures: The numbers and texts of the file, in its order; the gate's limits among them.
        verdict: ``passed``, ``failed`` or ``undecided``.
    """

    name: str
    passed: bool
    models: str
    command: str
    figures: dict[str, str | float]
    verdict: str

    @property
    def word(self) -> Word:
        """Judge it; where neither model finds anything, nothing was compared."""
        if self.passed:
            return "passed"
        if self.verdict != "undecided":
            return "failed"
        found = (self.figures.get(key) for key in ("matched", "unmatched"))
        return "undecided" if any(found) else "not compared"


@dataclass(frozen=True)
class Origin:
    """Where an artifact comes from, out of its manifest."""

    artifact: str
    kind: str
    sha256: str
    command: str
    parents: tuple[str, ...]
    versions: tuple[str, ...]
    summary: str


@dataclass(frozen=True)
class LogRecord:
    """One line of the training log: the step and the figures taken there."""

    step: int
    figures: dict[str, float]


@dataclass(frozen=True)
class TrainingLog:
    """The curves of a training run.

    Attributes:
        steps: Loss terms and ``loss``, their sum, of each logged step.
        evaluations: ``ap`` and ``ap50`` on the validation split.
    """

    steps: tuple[LogRecord, ...]
    evaluations: tuple[LogRecord, ...]


@dataclass(frozen=True)
class DataFacts:
    """What the models were measured on.

    Attributes:
        root: Folder of the data set.
        format: File name under ``edgedetr.distill.data``.
        split: Split of the data set.
        frames: Evaluated frames.
        frames_in_split: All frames of the split.
        objects: Labelled objects in the evaluated frames, by class.
        timed_frames: Frames that every model was timed on.
    """

    root: str
    format: str
    split: str
    frames: int
    frames_in_split: int
    objects: dict[str, int]
    timed_frames: int


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that was measured and checked of a run.

    Attributes:
        run: Folder of the run.
        verdict: That of the gates.
        models: Teacher first where there is one, then the students.
        data: What they were measured on.
        worst_frames: Where the last student makes most errors.
        training: The log, or None.
        made_by: Settings of the training run, or None.
        parity: Every parity check that lies in the run's folder.
        coverage: Every search for INT8 coverage that lies in the run's folder.
        devices: What devices found of the models, by the records in the run's folder.
        origins: Every manifest that lies in the run's folder.
        machine: What it was measured on.
        versions: ``name==version`` of the packages that measured.
        command: What made the report.
        missing: What is missing and how to get it, a sentence each.
    """

    run: str
    verdict: Verdict
    models: tuple[ModelReport, ...]
    data: DataFacts
    worst_frames: tuple[WorstFrame, ...]
    training: TrainingLog | None
    made_by: dict[str, Any] | None
    parity: tuple[ParityResult, ...]
    coverage: tuple[CoverageRecord, ...]
    devices: tuple[DeviceRun, ...]
    origins: tuple[Origin, ...]
    machine: dict[str, str | float]
    versions: tuple[str, ...]
    command: str
    missing: tuple[str, ...]

    @property
    def teacher(self) -> ModelReport | None:
        """The model that the others are compared with."""
        return self.models[0] if self.models[0].name == TEACHER else None

    @property
    def students(self) -> tuple[ModelReport, ...]:
        """All but the teacher."""
        return tuple(m for m in self.models if m.name != TEACHER)

    def as_dict(self) -> dict[str, Any]:
        """Return it as it is written to ``report.json``; a figure that is not defined is null."""
        return {
            "run": self.run,
            "verdict": self.verdict.word,
            "reasons": list(self.verdict.reasons),
            "models": [_model_dict(m) for m in self.models],
            "parity": [asdict(p) for p in self.parity],
            "coverage": [asdict(c) for c in self.coverage],
            "devices": [asdict(d) for d in self.devices],
            "data": asdict(self.data),
            "worst_frames": [asdict(w) for w in self.worst_frames],
            "training": _last_evaluation(self.training),
            "made_by": self.made_by,
            "origins": [asdict(o) for o in self.origins],
            "machine": self.machine,
            "versions": list(self.versions),
            "command": self.command,
            "missing": list(self.missing),
        }


TEACHER = "teacher"
"""Name of the model that the others are compared with."""
_OWN_FORM = {
    "curves", "latency", "model_latency", "ap50_to_teacher", "slices", "errors", "reliability",
}  # fmt: skip
"""Fields of a model that are not written as they are."""


def _model_dict(model: ModelReport) -> dict[str, Any]:
    values = {f.name: getattr(model, f.name) for f in fields(model) if f.name not in _OWN_FORM}
    difference = model.ap50_to_teacher
    return {
        **{k: _finite(v) for k, v in values.items()},
        "ap50_to_teacher": _finite(asdict(difference)) if difference else None,
        "slices": _slices_dict(model.slices),
        "errors": asdict(model.errors),
        "reliability": {
            part.name: {"ece": _finite(part.ece), "ranges": [asdict(r) for r in part.ranges]}
            for part in model.reliability
        },
        "latency_ms": _percentiles(model.latency),
        "model_latency_ms": _percentiles(model.model_latency),
    }


def _slices_dict(slices: Sequence[Slice]) -> dict[str, Any]:
    """Return the figures of each slice by kind and name."""
    kinds: dict[str, Any] = {}
    for part in slices:
        values = {f.name: getattr(part, f.name) for f in fields(part)}
        kind, name = values.pop("kind"), values.pop("name")
        change = values["missed_to_teacher"]
        values["missed_to_teacher"] = asdict(change) if change else None
        kinds.setdefault(kind, {})[name] = _finite(values)
    return kinds


def _percentiles(latency: Latency) -> dict[str, float]:
    return {"p50": latency.p50_ms, "p90": latency.p90_ms, "p99": latency.p99_ms}


def _finite(value: Any) -> Any:  # noqa: ANN401 - plain JSON values
    """Replace NaN by None, for JSON has no NaN."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _last_evaluation(log: TrainingLog | None) -> dict[str, Any] | None:
    if log is None:
        return None
    last = log.evaluations[-1] if log.evaluations else None
    return {
        "steps": len(log.steps),
        "last_evaluation": {"step": last.step, **_finite(last.figures)} if last else None,
    }
