"""Gate of a package: what devices found of its models, in the records of edgedetr device check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedetr.runtime.device_check.record import read_record
from edgedetr.runtime.errors import GateError
from edgedetr.runtime.package.detached_signature import signature_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgedetr.export.package.candidate import Candidate
    from edgedetr.runtime.device_check.model_check import ModelCheck

DEVICES = "devices/"
"""Folder of a package that holds records and their signatures."""


@dataclass(frozen=True)
class DeviceProof:
    """What one device proved.

    Attributes:
        name: File name of the record.
        shown: SHA-256 of each packed ONNX file and engine that may ship for it.
        signed_by: Fingerprint of who signed the record; empty where nobody did.
        line: What the gate says.
    """

    name: str
    shown: frozenset[str]
    signed_by: str
    line: str


def device_proof(
    path: Path, models: Sequence[Candidate], engines: Mapping[str, str]
) -> DeviceProof:
    """Require that a device ran models of a package, and that none of them must stay here.

    Args:
        path: Record of ``edgedetr device check``; its signature lies beside it, if it has one.
        models: The ONNX models that shall ship.
        engines: File name and SHA-256 of each engine that shall ship.

    Raises:
        ArtifactError: If the record is damaged, or says other than its figures.
        GateError: If it is a rehearsal, of other models, or one of its models must not ship.
    """
    record, signed_by = read_record(path)
    if record.simulated:
        raise GateError(
            f"{path} is a rehearsal on a CPU; run edgedetr device check without --simulate on the "
            "device"
        )
    packed = {m.parts[0]: m for m in models}
    ours = [c for c in record.models if c.sha256 in {*packed, *engines.values()}]
    for check in ours:
        if check.problems:
            raise GateError(
                f"{path}: {check.name} must not ship for {record.device.name}: {check.problems[0]}"
            )
        if check.sha256 in packed:
            _check_weights(path, check, packed[check.sha256])
    if not ours:
        raise GateError(
            f"{path} tells of no model that is packed here; run edgedetr device check on them"
        )
    signed = f"signed by {signed_by[:16]}" if signed_by else "NOT SIGNED"
    rate = f"at {record.pace.rate_hz:g} Hz"
    times = ", ".join(f"{_base(c.name)} p99 {c.check.paced.p99_ms:.2f} ms" for c in ours if c.check)
    line = f"{record.device.name}, {record.power_mode or 'no power mode'}: {times} {rate}; {signed}"
    return DeviceProof(path.name, frozenset(c.sha256 for c in ours), signed_by, line)


def proof_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Return where a package holds each record, and its signature where it has one."""
    files = [file for path in paths for file in (path, signature_path(path))]
    return {f"{DEVICES}{file.name}": file for file in files if file.is_file()}


def _check_weights(path: Path, check: ModelCheck, model: Candidate) -> None:
    """Require that weights in other files are those that ran; a package's record names them."""
    beside = {Path(name).name: found for name, found in check.beside.items()}
    for name, wanted in zip(model.data, model.parts[1:], strict=True):
        if beside.get(name) != wanted:
            raise GateError(
                f"{path} is about other weights than those of {model.path.name} in {name}; pack "
                "it, and run edgedetr device check on the package"
            )


def _base(name: str) -> str:
    return name.rpartition("/")[2]
