"""Measure the models of a run side by side and write the report, read top to bottom."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.bench.report.agreement import agreement
from edgedetr.bench.report.contents import TEACHER, Curves, DataFacts, ModelReport, Report
from edgedetr.bench.report.distances import distances
from edgedetr.bench.report.error_kinds import error_kinds
from edgedetr.bench.report.error_pictures import draw_errors
from edgedetr.bench.report.figures import model_styles
from edgedetr.bench.report.intervals import ap50_difference
from edgedetr.bench.report.matches import all_objects, match
from edgedetr.bench.report.measure import Measured, measure
from edgedetr.bench.report.model_facts import model_facts
from edgedetr.bench.report.page import page
from edgedetr.bench.report.pictures import draw_frames
from edgedetr.bench.report.reliability import reliability
from edgedetr.bench.report.run_folder import RunFolder, read_run_folder
from edgedetr.bench.report.slices import slices
from edgedetr.bench.report.verdict import verdict
from edgedetr.bench.report.worst_frames import frame_errors, worst_frames
from edgedetr.distill.data import open_dataset
from edgedetr.distill.data.kitti import label_path
from edgedetr.distill.dataset_format import recognised
from edgedetr.distill.evaluation.coco import coco_ap
from edgedetr.distill.evaluation.kitti import CLASSES, DIFFICULTIES, evaluate_kitti_frames
from edgedetr.runtime.detector import Detector
from edgedetr.runtime.errors import ArtifactError, BackendError, UsageError
from edgedetr.runtime.files import write_text
from edgedetr.runtime.health.image_figures import CameraProbe
from edgedetr.runtime.machine import machine_facts, package_versions
from edgedetr.runtime.timing import latency_from_samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from edgedetr.bench.report.matches import Matches, Objects
    from edgedetr.bench.report.worst_frames import WorstFrame
    from edgedetr.distill.data import Dataset, Untrained
    from edgedetr.runtime.types import Frame


@dataclass(frozen=True)
class DataChoice:
    """The frames to measure on.

    Attributes:
        root: Folder of the data set; None takes that of the training run.
        frames: How many frames from the beginning of the validation split; None takes all.
        kind: The format of the data set; None recognises it, or takes that of the training run.
    """

    root: Path | None = None
    frames: int | None = None
    kind: str | None = None


def write_report(
    run: Path, data: DataChoice, teacher: Path | None = None, command: str = ""
) -> Report:
    """Measure teacher and students of a run and write ``report.json`` and ``report.html`` there.

    Args:
        run: Folder with ``student.onnx`` and what else was made: ``student.*.onnx``,
            ``teacher.onnx``, ``log.jsonl``, ``metrics.json``, ``verify.*.json``, manifests.
        data: What to measure on.
        teacher: The teacher's ONNX file, or its checkpoint, which is then exported for the time
            of the measurement, so that all models run the same way; None takes ``teacher.onnx`` of
            the run.
        command: The command line that the report names.

    Raises:
        ArtifactError: If there is no student, a file is damaged, or the models do not know the
            same classes.
        DataError: If the data set is missing or damaged.
        UsageError: If the run does not say which data it used and none was given.
    """
    folder = read_run_folder(run)
    with ExitStack() as stack:
        teacher_path = _teacher(run, teacher, stack)
        needed = [*([teacher_path] if teacher_path else []), folder.students[0]]
        opened = {path: stack.enter_context(_open(path)) for path in needed}
        left_out = _open_others(folder.students[1:], opened, stack)
        paths, detectors = list(opened), list(opened.values())
        class_names = _common_classes(paths, detectors)
        facts = _open_data(folder, data, class_names)
        light = _Light()
        measured = measure(detectors, facts.dataset, facts.frames, light.add)
        models = _models(
            paths, measured, facts, light.brightness, has_teacher=teacher_path is not None
        )
    missing = folder.missing + left_out
    if teacher_path is None:
        missing.append(
            "The run has no teacher.onnx to compare the students with (edgedetr export onnx "
            f"TEACHER -o {run}/teacher.onnx, or --teacher)."
        )
    report = Report(
        run=run.resolve().name,
        verdict=verdict(folder.parity, folder.coverage, models),
        models=models,
        data=facts.describe(len(measured[0].latency_ns)),
        worst_frames=_worst(models, facts),
        training=folder.training,
        made_by=folder.config,
        parity=folder.parity,
        coverage=folder.coverage,
        devices=folder.devices,
        origins=folder.origins,
        machine=machine_facts(),
        versions=package_versions(),
        command=command,
        missing=tuple(missing),
    )
    _write(run, report, facts, class_names)
    return report


def _write(run: Path, report: Report, facts: _Data, class_names: Sequence[str]) -> None:
    pictures = draw_frames(facts.dataset, facts.frames, report.models, model_styles(report))
    html = page(report, pictures, draw_errors(facts.dataset, report), class_names)
    write_text(run / "report.json", json.dumps(report.as_dict(), indent=2, allow_nan=False) + "\n")
    write_text(run / "report.html", html)


@dataclass(frozen=True, eq=False)
class _Data:
    """An opened split and how many of its frames are measured."""

    root: Path
    format: str
    split: str
    dataset: Dataset
    frames: int

    def describe(self, timed_frames: int) -> DataFacts:
        truths = self.dataset.truths[: self.frames]
        names = self.dataset.class_names
        labels = np.concatenate([t.labels for t in truths])
        counts = np.bincount(labels, minlength=len(names)).tolist()
        return DataFacts(
            root=str(self.root),
            format=self.format,
            split=self.split,
            frames=self.frames,
            frames_in_split=len(self.dataset),
            objects=dict(zip(names, counts, strict=True)),
            timed_frames=timed_frames,
        )


class _Light:
    """Notes how bright frames are."""

    def __init__(self) -> None:
        self.brightness: list[float] = []

    def add(self, frame: Frame) -> None:
        self.brightness.append(CameraProbe()(frame.image).brightness)


def _open(path: Path) -> Detector:
    """Open a model to run beside others, without a lower limit of scores."""
    return Detector.open(path, threshold=0.0, backend="auto", steady=True)


def _open_others(
    paths: Sequence[Path], opened: dict[Path, Detector], stack: ExitStack
) -> list[str]:
    """Open what was made of the student; return why what cannot be run is left out."""
    left_out: list[str] = []
    for path in paths:
        with _noted(path, left_out):
            opened[path] = stack.enter_context(_open(path))
    return left_out


@contextmanager
def _noted(path: Path, left_out: list[str]) -> Iterator[None]:
    try:
        yield
    except (ArtifactError, BackendError) as error:
        left_out.append(f"{path.name} is left out, because it cannot run: {error}")


def _teacher(run: Path, given: Path | None, stack: ExitStack) -> Path | None:
    """Find the teacher's ONNX file, or make it in a folder that lasts as long as ``stack``."""
    if given is None:
        default = run / "teacher.onnx"
        return default if default.is_file() else None
    if given.suffix != ".safetensors":
        return given
    from edgedetr.export.to_onnx import export_onnx

    exported = Path(stack.enter_context(TemporaryDirectory())) / "teacher.onnx"
    export_onnx(given, exported)
    return exported


def _common_classes(paths: Sequence[Path], detectors: Sequence[Detector]) -> tuple[str, ...]:
    first = detectors[0].spec.class_names
    for path, detector in zip(paths, detectors, strict=True):
        if detector.spec.class_names != first:
            raise ArtifactError(
                f"{path} has the classes {', '.join(detector.spec.class_names)}, {paths[0]} "
                f"{', '.join(first)}; only models of the same classes can be compared"
            )
    return first


def _open_data(folder: RunFolder, choice: DataChoice, class_names: tuple[str, ...]) -> _Data:
    config = folder.config["data"] if folder.config else {}
    if choice.root is None and not config:
        raise UsageError(
            f"{folder.path} has no metrics.json that says which data it used; give --data ROOT"
        )
    root = choice.root or Path(config["root"])
    named = config.get("format", "kitti") if choice.root is None else None
    kind = recognised(root, choice.kind or named)
    split = config.get("val_split", "val")
    # a run of before this setting ignored what it did not train
    untrained: Untrained = "background"
    if choice.root is None and config.get("untrained", "ignored") == "ignored":
        untrained = "ignored"
    dataset = open_dataset(kind, root, split, class_names, untrained)
    frames = min(choice.frames or len(dataset), len(dataset))
    return _Data(root, kind, split, dataset, frames)


def _models(
    paths: Sequence[Path],
    measured: Sequence[Measured],
    data: _Data,
    light: Sequence[float],
    *,
    has_teacher: bool,
) -> tuple[ModelReport, ...]:
    names = [TEACHER if has_teacher and not i else p.stem for i, p in enumerate(paths)]
    reference = measured[0] if has_teacher else None
    truths = data.dataset.truths[: data.frames]
    objects = all_objects(truths, _distances(data), light)
    matches = [match(truths, result.detections) for result in measured]
    compared = (reference, matches[0]) if reference else None
    return tuple(
        _model((name, path), (result, own), compared, objects, data)
        for name, path, result, own in zip(names, paths, measured, matches, strict=True)
    )


def _worst(models: Sequence[ModelReport], data: _Data) -> tuple[WorstFrame, ...]:
    """Return the frames where the last model makes most errors."""
    errors = {model.name: model.curves.errors for model in models}
    return worst_frames(errors, models[-1].name, data.dataset.ids[: data.frames])


def _distances(data: _Data) -> NDArray[np.float64] | None:
    """Return how far away the objects are, where KITTI's labels say so."""
    if data.format != "kitti":
        return None
    truths = data.dataset.truths[: data.frames]
    return distances(_kitti_labels(data), truths, data.dataset.class_names)


def _model(
    named: tuple[str, Path],
    result: tuple[Measured, Matches],
    teacher: tuple[Measured, Matches] | None,
    objects: Objects,
    data: _Data,
) -> ModelReport:
    (name, path), (measured, matches) = named, result
    facts = model_facts(path)
    names, truths = data.dataset.class_names, data.dataset.truths[: data.frames]
    scores = coco_ap(truths, measured.detections, names)
    return ModelReport(
        name=name,
        sha256=facts.sha256,
        precision=facts.precision,
        ran_on=measured.ran_on,
        params_m=facts.params_m,
        gflops=facts.gflops,
        file_mib=facts.file_mib,
        ap=scores.ap,
        ap50=scores.ap50,
        ap50_by_class=dict(zip(names, scores.ap50_by_class.tolist(), strict=True)),
        kitti_ap40_moderate=_kitti(measured, data),
        latency=latency_from_samples(measured.latency_ns),
        model_latency=latency_from_samples(measured.model_ns),
        agreement_with_teacher=(
            agreement(teacher[0].detections, measured.detections) if teacher else None
        ),
        ap50_to_teacher=(
            ap50_difference(objects, matches, teacher[1], data.frames)
            if teacher and teacher[1] is not matches
            else None
        ),
        slices=tuple(slices(objects, matches, names, data.frames, teacher[1] if teacher else None)),
        errors=error_kinds(truths, measured.detections, matches),
        reliability=reliability(matches, names),
        curves=Curves(
            precision=scores.precision,
            latency_ms=np.array(measured.latency_ns) / 1e6,
            model_latency_ms=np.array(measured.model_ns) / 1e6,
            detections=tuple(measured.detections),
            errors=frame_errors(objects, matches, data.frames),
        ),
    )


def _kitti(measured: Measured, data: _Data) -> dict[str, float] | None:
    """Return KITTI's AP40 at moderate of the classes that the models know, for KITTI data.

    A class that has no moderate object in these frames has no AP: NaN.
    """
    if data.format != "kitti":
        return None
    names = data.dataset.class_names
    scores = evaluate_kitti_frames(_kitti_labels(data), measured.detections, names)
    moderate = DIFFICULTIES.index("moderate")
    truths = data.dataset.truths[: data.frames]
    present = np.concatenate([t.labels[t.difficulty() <= moderate] for t in truths])
    return {
        name: float(ap) if names.index(name) in present else np.nan
        for name, ap in zip(CLASSES, scores.ap40[:, moderate], strict=True)
        if name in names
    }


def _kitti_labels(data: _Data) -> list[Path]:
    """Return the label file of each measured frame."""
    return [label_path(data.root, name) for name in data.dataset.ids[: data.frames]]
