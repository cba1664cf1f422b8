"""Gates before a model ships: every check passed, and was made on exactly this model."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import onnx

from edgedetr.calib.stats import read_stats
from edgedetr.export.package.report_record import read_report_record
from edgedetr.export.search.coverage_record import read_coverage
from edgedetr.graph.checksum import external_files, model_sha256, nodes_of, tensors_of
from edgedetr.graph.contract import check_contract
from edgedetr.graph.model_file import embedded_spec, load_onnx
from edgedetr.runtime.errors import GateError, UsageError
from edgedetr.runtime.files import sha256
from edgedetr.runtime.manifest import manifest_path, read_manifest
from edgedetr.runtime.spec import METADATA_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from edgedetr.calib.stats import CalibrationStats
    from edgedetr.export.verify.record import VerifyRecord
    from edgedetr.runtime.manifest import Manifest
    from edgedetr.runtime.package.reader import Precision
    from edgedetr.runtime.spec import ModelSpec

_TYPES = onnx.TensorProto
_FULL = {_TYPES.FLOAT, _TYPES.DOUBLE, _TYPES.INT64, _TYPES.INT32, _TYPES.BOOL, _TYPES.STRING}
"""Types of constants that a model without reduced precision may hold."""

_PACKED = {
    *("DynamicQuantizeLinear", "DequantizeLinear", "QuantizeLinear", "MatMulInteger"),
    *("ConvInteger", "QLinearConv", "QLinearMatMul", "BitShift", "BitCast"),
    *("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot"),
}
"""Operators of ONNX itself that compute with few bits, or unpack what was stored in few."""

_MOVES = {
    *("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather"),
    *("GatherElements", "GatherND", "Concat", "Split", "Tile", "Expand"),
    *("Add", "Sub", "Mul", "Div", "Mod"),
}
"""Operators that hand whole numbers on."""

_MOST_INDICES = 256
"""Whole numbers of a constant that may become floats: sizes and steps, and no weights."""


@dataclass(frozen=True)
class Candidate:
    """An ONNX model that shall ship, or that one was made from.

    Attributes:
        path: Its file.
        sha256: Hash of all its bytes, see `model_sha256`.
        precision: Of its graph.
        spec: Its contract.
        data: Files of its external data, relative to its folder.
        manifest: What lies beside it, if anything does.
    """

    path: Path
    sha256: str
    precision: Precision
    spec: ModelSpec
    data: tuple[str, ...]
    manifest: Manifest | None


def read_candidate(path: Path, spec: ModelSpec | None) -> Candidate:
    """Read a model and check that it is whole and what its manifest says.

    Raises:
        ArtifactError: If a file is missing or damaged, was changed after its manifest, or is not
            what its spec says.
        UsageError: If ``spec`` is not the one that the model carries.
        GateError: If its manifest gives it another spec.
    """
    hashed = model_sha256(path) if path.is_file() else ""  # before it is read: packed is the same
    model = load_onnx(path)
    data = external_files(path)
    if any(p.key == METADATA_KEY for p in model.metadata_props):
        own = embedded_spec(model, path)
        if spec not in (None, own):
            raise UsageError(f"{path} carries a spec that differs from --spec; leave --spec out")
        spec = own
    spec = spec or embedded_spec(model, path)
    check_contract(model, spec, path)
    manifest = read_manifest(path) if manifest_path(path).is_file() else None
    if manifest and manifest.spec != spec:
        raise GateError(f"the spec in {manifest_path(path)} is not that of {path}; export it again")
    return Candidate(path, hashed, precision_for_gates(model), spec, data, manifest)


def precision_for_gates(model: onnx.ModelProto) -> Precision:
    """Tell the precision of a graph: FP32 is what nothing but known FP32 is.

    That are operators of ONNX that are not for few bits, and constants of whole types. All else is
    FP16 where its types say no more than that, and INT8 otherwise: weights in four bits, operators
    of other domains, whole numbers that become weights.
    """
    nodes = list(nodes_of(model))
    types = {tensor.data_type for tensor in tensors_of(model)}
    types |= {a.i for n in nodes if n.op_type == "Cast" for a in n.attribute if a.name == "to"}
    half = {_TYPES.FLOAT16, _TYPES.BFLOAT16}
    unknown = any(not _is_known(n) or n.op_type in _PACKED for n in nodes)
    if unknown or not types <= _FULL | half or _holds_integer_weights(model, nodes):
        return "int8"
    return "fp16" if types & half else "fp32"


def _is_known(node: onnx.NodeProto) -> bool:
    """Tell whether ONNX itself defines an operator."""
    return node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type, "")


def _holds_integer_weights(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> bool:
    """Tell whether a large constant of whole numbers becomes floats."""
    floats = {_TYPES.FLOAT, _TYPES.DOUBLE, _TYPES.FLOAT16, _TYPES.BFLOAT16}
    constants = {t.name: t for t in model.graph.initializer}
    constants |= {n.output[0]: a.t for n in nodes for a in n.attribute if a.HasField("t")}
    large = {
        name
        for name, tensor in constants.items()
        if tensor.data_type in {_TYPES.INT64, _TYPES.INT32, _TYPES.BOOL}
        and prod(tensor.dims) > _MOST_INDICES
    }
    while more := {
        o for n in nodes if n.op_type in _MOVES and large & {*n.input} for o in n.output
    }:
        if more <= large:
            break
        large |= more
    return any(
        n.op_type == "Cast" and n.input[0] in large and a.name == "to" and a.i in floats
        for n in nodes
        for a in n.attribute
    )


def check_parity(
    models: Sequence[Candidate],
    verdicts: Sequence[VerifyRecord],
    references: Sequence[Candidate],
    engines: Sequence[Path] = (),
) -> tuple[str, ...]:
    """Require of every model in less than FP32 a chain of passed reports from a trusted start.

    Such a start is a checkpoint, or an FP32 ONNX model that is there and of the report's hash:
    one of the models themselves or of ``references``.

    Args:
        models: What shall ship.
        verdicts: Reports, in any order.
        references: Models that the others were made from and that do not ship.
        engines: Engines that shall ship.

    Returns:
        What the reports say, a line each.

    Raises:
        GateError: If a report says no, is missing, or is about another model.
    """
    for verdict in verdicts:
        if not verdict.passed:
            says = "does not find" if verdict.verdict == "failed" else "is not known to find"
            raise GateError(
                f"{verdict.path}: {verdict.candidate} {says} what {verdict.reference} "
                f"finds: {verdict.reason}; nothing was packaged"
            )
    for reference in references:
        if reference.precision != "fp32":
            raise GateError(f"the reference {reference.path} is {reference.precision}, not FP32")
    _check_all_concern({m.sha256 for m in models} | {sha256(e) for e in engines}, verdicts)
    starts = {c.sha256 for c in (*models, *references) if c.precision == "fp32"}
    starts |= {v.reference_sha256 for v in verdicts if v.reference.endswith(".safetensors")}
    checked = _reached(starts, verdicts)
    for model in models:
        if model.sha256 not in checked:
            _refuse_unchecked(model, verdicts)
    return tuple(f"{v.candidate} against {v.reference}: {_figures(v)}" for v in verdicts)


def check_calibration(
    path: Path | None, models: Sequence[Candidate], verdicts: Sequence[VerifyRecord]
) -> CalibrationStats | None:
    """Require that the INT8 models were quantized with exactly these stats.

    Raises:
        ArtifactError: If the stats are damaged.
        GateError: If they are of another model, or missing although a model was made with some.
    """
    quantized = [m for m in models if m.precision == "int8" and m.manifest]
    parents = {
        p.sha256: (model.path, p.name)
        for model in quantized
        for p in (model.manifest.parents if model.manifest else ())
        if p.name.endswith(".json")
    }
    if path is None:
        if parents:
            model, name = next(iter(parents.values()))
            raise GateError(f"{model} was quantized with {name}; give it with --calibration")
        return None
    stats = read_stats(path)
    known = {m.sha256 for m in models} | {v.reference_sha256 for v in verdicts}
    if stats.model_sha256 not in known:
        raise GateError(
            f"{path} was collected on another model: {stats.model} "
            f"({stats.model_sha256[:12]}...); nothing was packaged"
        )
    if parents and sha256(path) not in parents:
        model, name = next(iter(parents.values()))
        raise GateError(f"{model} was quantized with another {name} than {path}; quantize it again")
    return stats


def check_report(path: Path, models: Iterable[Candidate]) -> None:
    """Require that a report of ``edgedetr report`` passed and tells of exactly these models.

    Raises:
        ArtifactError: If it is missing or no such report.
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
    sources = _reached({model.sha256}, verdicts, backwards=True)
    if record.int8 != model.path.name or record.model_sha256 not in sources:
        raise GateError(
            f"{path} is not about {model.path} as it is now; remove it or measure again"
        )


def check_engine(path: Path, models: Sequence[Candidate]) -> Candidate:
    """Return the packed ONNX model that an engine was built from.

    Raises:
        ArtifactError: If the engine or its manifest is missing, or they do not match.
        GateError: If it was built from another model.
    """
    manifest = read_manifest(path)
    if manifest.kind != "engine":
        raise GateError(f"{path} is of the kind {manifest.kind} by its manifest, not an engine")
    parents = {p.sha256 for p in manifest.parents}
    for model in models:
        if sha256(model.path) in parents and manifest.spec == model.spec:
            return model
    raise GateError(
        f"{path} was not built from {' or '.join(m.path.name for m in models)} as packaged; build "
        "it again: edgedetr export engine"
    )


def _figures(record: VerifyRecord) -> str:
    """Return what a report measured, in one line."""
    figures = {
        "frames": record.frames,
        "matched": record.matched,
        "unmatched": record.unmatched,
        "p99 box error px": record.p99_box_error_px,
        "mean score error": record.mean_score_error,
    }
    return ", ".join(f"{k} {v:.4g}" for k, v in figures.items() if v is not None)


def _check_all_concern(packed: set[str], verdicts: Sequence[VerifyRecord]) -> None:
    """Stop at a report that is no step on the way to a packed model."""
    relevant = _reached(packed, verdicts, backwards=True)
    for verdict in verdicts:
        if verdict.candidate_sha256 not in relevant:
            raise GateError(
                f"{verdict.path} is about another model: {verdict.candidate} "
                f"({verdict.candidate_sha256[:12]}...); run edgedetr verify again"
            )


def _reached(
    starts: set[str], verdicts: Sequence[VerifyRecord], *, backwards: bool = False
) -> set[str]:
    """Return the models that reports lead to, from reference to candidate."""
    steps = [(v.reference_sha256, v.candidate_sha256) for v in verdicts]
    steps = [(b, a) for a, b in steps] if backwards else steps
    reached = set(starts)
    while new := {b for a, b in steps if a in reached} - reached:
        reached |= new
    return reached


def _refuse_unchecked(model: Candidate, verdicts: Sequence[VerifyRecord]) -> None:
    way = _reached({model.sha256}, verdicts, backwards=True)
    starts = [v.reference for v in verdicts if v.candidate_sha256 in way]
    if not starts:
        raise GateError(
            f"{model.path} is {model.precision} and has no report; run edgedetr "
            f"verify REFERENCE {model.path} --json V.json and give --parity V.json"
        )
    raise GateError(
        f"the reports about {model.path} start at {starts[-1]}, which has no report itself; give "
        f"its report with --parity, or the FP32 model itself: --reference {starts[-1]}"
    )
