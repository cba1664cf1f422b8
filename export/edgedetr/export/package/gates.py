"""Gates beside the chain of reports: calibration, accuracy, coverage, engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedetr.calib.stats import read_stats
from edgedetr.export.package.chain import reached
from edgedetr.export.package.report_record import read_report_record
from edgedetr.export.search.coverage_record import read_coverage
from edgedetr.graph.exact import EIGHT_BITS
from edgedetr.runtime.errors import GateError
from edgedetr.runtime.files import sha256
from edgedetr.runtime.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from edgedetr.calib.stats import CalibrationStats
    from edgedetr.export.package.candidate import Candidate
    from edgedetr.export.package.report_record import ReportRecord
    from edgedetr.export.verify.record import VerifyRecord
    from edgedetr.runtime.manifest import Parent


CALIBRATION = "checks/calibration.json"
"""Where a package holds the `CalibrationDigest`."""


@dataclass(frozen=True)
class CalibrationDigest:
    """What a package tells of the stats that its INT8 and FP8 models were quantized with.

    Attributes:
        sha256: Hash of their file.
        model: File name of the model that they were collected on.
        model_sha256: Hash of its bytes.
        method: How each amax was chosen.
        frames: How many frames were seen.
        frames_sha256: Hash of their pixels.
        tensors: How many activations have a range.
    """

    sha256: str
    model: str
    model_sha256: str
    method: str
    frames: int
    frames_sha256: str
    tensors: int


def digest_of(stats: CalibrationStats, path: Path) -> CalibrationDigest:
    """Sum up stats and their file."""
    return CalibrationDigest(
        sha256=sha256(path),
        model=stats.model,
        model_sha256=stats.model_sha256,
        method=stats.method,
        frames=stats.frames,
        frames_sha256=stats.frames_sha256,
        tensors=len(stats.ranges),
    )


def check_calibration(
    path: Path | None,
    models: Sequence[Candidate],
    verdicts: Sequence[VerifyRecord],
    references: Sequence[Candidate] = (),
) -> CalibrationStats | None:
    """Require that every INT8 or FP8 model says how it was quantized, and with these stats.

    Raises:
        ArtifactError: If the stats are damaged.
        GateError: If they are of another model or missing, or such a model has no manifest.
    """
    given = "" if path is None else sha256(path) if path.is_file() else "missing"
    check_quantized(models, given, str(path), (*models, *references))
    if path is None:
        return None
    stats = read_stats(path)
    known = {m.sha256 for m in (*models, *references)} | {v.reference_sha256 for v in verdicts}
    if stats.model_sha256 not in known:
        raise GateError(
            f"{path} was collected on another model: {stats.model} "
            f"({stats.model_sha256[:12]}...); nothing was packaged"
        )
    return stats


def check_quantized(
    models: Sequence[Candidate], given: str, source: str, known: Sequence[Candidate] | None
) -> None:
    """Require that each INT8 or FP8 model was quantized with one file of stats, or trained for it.

    Args:
        models: What shall ship.
        given: Hash of the stats; empty where there are none.
        source: Where the stats lie, for messages.
        known: Models among which must be what a model without stats was made from; None
            where that was checked before.

    Raises:
        GateError: If one was not, or has no manifest that says so.
    """
    for model in models:
        if model.precision not in EIGHT_BITS:
            continue
        parent = _stats_of(model, known)
        if parent is None:
            continue
        if not given:
            raise GateError(
                f"{model.path} was quantized with {parent.name}; give it with --calibration"
            )
        if given not in {parent.sha256, "missing"}:
            raise GateError(
                f"{model.path} was quantized with another {parent.name} than {source}; quantize "
                "it again: edgedetr export qdq"
            )


def _stats_of(model: Candidate, known: Sequence[Candidate] | None) -> Parent | None:
    """Return the stats that a model was quantized with; None where it was trained for INT8.

    Raises:
        GateError: If its manifest is missing or does not say either.
    """
    manifest = model.manifest
    if manifest is None or manifest.kind != "qdq":
        raise GateError(
            f"{model.path} is {model.precision} and has no manifest that says how; "
            "make it again: edgedetr export qdq FP32.onnx STATS.json"
        )
    for parent in manifest.parents:
        if parent.name.endswith(".json"):
            return parent
    hashes = {parent.sha256 for parent in manifest.parents}
    trained = {m.parts[0] for m in known or () if m.is_trained_for_int8}
    if known is not None and not trained & hashes:
        name = manifest.parents[0].name if manifest.parents else "its FP32 model"
        raise GateError(
            f"the manifest of {model.path} names no calibration, so {name} must have been trained "
            f"for INT8: give that with --reference, or quantize again with STATS: edgedetr "
            "export qdq"
        )
    return None


def check_report(path: Path, models: Iterable[Candidate]) -> ReportRecord:
    """Require that a report of ``edgedetr report`` passed and tells of exactly these models.

    Raises:
        ArtifactError: If it is missing or no such report, or its verdicts are not what its figures
            say.
        GateError: If a comparison in it did not pass, or a model was not measured or another then.
    """
    report = read_report_record(path)
    if report.verdict in {"failed", "undecided"}:
        raise GateError(f"{path} did not pass: {report.verdict}; nothing was packaged")
    for name, verdict in report.verdicts.items():
        if verdict != "passed":
            raise GateError(
                f"{path} says that {name} did not pass: {verdict}; nothing was packaged"
            )
    for model in models:
        if model.sha256 not in report.models.values():
            raise GateError(
                f"{path} does not contain {model.path.name} as it is now ({model.sha256[:12]}...); "
                "run edgedetr report again"
            )
    return report


def check_coverage(path: Path, model: Candidate, verdicts: Sequence[VerifyRecord]) -> None:
    """Require that the measurements beside an INT8 model are of what it was made from.

    Args:
        path: The measurements.
        model: The INT8 model.
        verdicts: Reports; the measured model must be one of those that lead to ``model``.

    Raises:
        ArtifactError: If they are damaged.
        GateError: If they are of another model.
    """
    record = read_coverage(path)
    sources = reached({model.sha256}, verdicts, backwards=True)
    if record.int8 != model.path.name or record.model_sha256 not in sources:
        raise GateError(
            f"{path} is not about {model.path} as it is now; remove it or measure again"
        )


def check_engine(path: Path, models: Sequence[Candidate]) -> Candidate:
    """Return the packed ONNX model that an engine was built from, external data included.

    Raises:
        ArtifactError: If the engine or its manifest is missing, or they do not match.
        GateError: If it was built from another model, or from other weights beside it.
    """
    manifest = read_manifest(path)
    if manifest.kind != "engine":
        raise GateError(f"{path} is of the kind {manifest.kind} by its manifest, not an engine")
    parents = {p.sha256 for p in manifest.parents}
    for model in models:
        if parents.issuperset(model.parts) and manifest.spec == model.spec:
            return model
    raise GateError(
        f"{path} was not built from {' or '.join(m.path.name for m in models)} as packaged; build "
        "it again: edgedetr export engine"
    )
