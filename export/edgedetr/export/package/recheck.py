"""Run the gates of a package once more, on what lies in it, and hold it to a fleet's policy."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from edgedetr.export.package.candidate import read_candidate
from edgedetr.export.package.chain import CHAIN, Chain, check_chain, checkpoints
from edgedetr.export.package.device_checks import DEVICES, device_proof
from edgedetr.export.package.gates import (
    CALIBRATION,
    CalibrationDigest,
    check_engine,
    check_quantized,
    check_report,
)
from edgedetr.export.package.policy import Evidence, check_policy, read_policy
from edgedetr.export.package.report_record import ACCURACY
from edgedetr.export.verify.record import read_verify_record
from edgedetr.runtime.errors import ArtifactError, SettingsError
from edgedetr.runtime.settings import settings_from_dict

if TYPE_CHECKING:
    from edgedetr.export.package.candidate import Candidate
    from edgedetr.export.package.device_checks import DeviceProof
    from edgedetr.runtime.package.reader import Package

T = TypeVar("T")


def recheck(opened: Package, policy: Path) -> tuple[str, ...]:
    """Read models and reports of a package again; none of its manifest's lines is believed.

    Args:
        opened: The package.
        policy: The policy, TOML.

    Returns:
        What the gates say, a line each, the policy last.

    Raises:
        ArtifactError: If the package is from before chains were recorded, or a report in it is
            none.
        GateError: If a gate fails, or the policy is not fulfilled.
        SettingsError: If the policy is none.
    """
    rules, files = read_policy(policy), {f.name for f in opened.manifest.files}
    if CHAIN not in files:
        raise ArtifactError(f"{opened.path} does not say where its chains begin; package it again")
    with TemporaryDirectory(prefix="edgedetr-") as name:
        folder = Path(name)
        chain = _parsed(Chain, opened, CHAIN)
        verdicts = [
            read_verify_record(_copied(opened, f"checks/{r}", folder)) for r in chain.reports
        ]
        models = _models(opened)
        imports = tuple(start for start in chain.starts if start.kind == "import")
        starts = (*imports, *checkpoints(verdicts))
        engines = _engines(opened, models)
        lines = check_chain(models, verdicts, starts, engines.values())
        digest = _parsed(CalibrationDigest, opened, CALIBRATION) if CALIBRATION in files else None
        check_quantized(models, digest.sha256 if digest else "", CALIBRATION, None)
        if ACCURACY in files:
            check_report(_copied(opened, ACCURACY, folder), models)
        proofs = _device_proofs(opened, models, engines, folder)
    evidence = Evidence(
        models=models,
        verdicts=verdicts,
        starts=starts,
        engines=engines,
        calibration_frames=digest.frames if digest else None,
        has_accuracy=ACCURACY in files,
        devices=proofs,
    )
    return (*lines, *(proof.line for proof in proofs), check_policy(rules, policy, evidence))


def _models(opened: Package) -> list[Candidate]:
    """Read the ONNX models; each must be of the precision that the manifest says."""
    found = []
    for model in opened.manifest.models:
        if model.kind == "onnx":
            candidate = read_candidate(opened.model_path(model.name), opened.spec)
            if candidate.precision != model.precision:
                raise ArtifactError(
                    f"{opened.path}: {model.name} is {candidate.precision}, its manifest says "
                    f"{model.precision}; do not use the package"
                )
            found.append(candidate)
    return found


def _engines(opened: Package, models: list[Candidate]) -> dict[str, str]:
    """Check that each engine was built from a model in the package; return names and hashes."""
    hashes = {f.name: f.sha256 for f in opened.manifest.files}
    engines = [m.name for m in opened.manifest.models if m.kind == "engine"]
    for name in engines:
        check_engine(opened.model_path(name), models)
    return {Path(name).name: hashes[name] for name in engines}


def _device_proofs(
    opened: Package, models: list[Candidate], engines: dict[str, str], folder: Path
) -> list[DeviceProof]:
    """Read the records of devices again, each beside its signature."""
    names = [f.name for f in opened.manifest.files if f.name.startswith(DEVICES)]
    paths = [_copied(opened, name, folder) for name in names]
    return [device_proof(p, models, engines) for p in paths if p.suffix != ".sig"]


def _copied(opened: Package, name: str, folder: Path) -> Path:
    path = folder / Path(name).name
    path.write_bytes(opened.read(name))
    return path


def _parsed(kind: type[T], opened: Package, name: str) -> T:
    try:
        return settings_from_dict(kind, json.loads(opened.read(name)), f"{opened.path}: {name}")
    except (ValueError, RecursionError, SettingsError) as error:
        raise ArtifactError(f"{opened.path}: {name} is damaged: {error}") from error
