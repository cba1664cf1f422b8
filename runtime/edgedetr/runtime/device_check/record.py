"""The record of a device check: written on the device, read by the gates of a package.

Its figures are read, its verdict is computed again: a file that says other than its own figures is
refused.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from edgedetr.runtime.cuda.device import CudaDevice
from edgedetr.runtime.device_check import system
from edgedetr.runtime.device_check.judgement import (
    fastest,
    passed,
    problems_of,
    without_slow_int8,
)
from edgedetr.runtime.device_check.measure import Pace
from edgedetr.runtime.device_check.model_check import ModelCheck
from edgedetr.runtime.errors import ArtifactError, SettingsError
from edgedetr.runtime.files import read_json, write_text
from edgedetr.runtime.machine import machine_facts
from edgedetr.runtime.package.detached_signature import (
    signature_path,
    signer_of,
    write_signature,
)
from edgedetr.runtime.settings import settings_from_dict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Format = Literal["edgedetr-device-check-2"]
MOST_BYTES = 4 << 20
"""The most bytes that a record may have."""


@dataclass(frozen=True)
class DeviceCheckRecord:
    """What a device ran, how fast, and what it is; `docs/deploy-jetson.md` explains each key."""

    format: Format
    verdict: Literal["passed", "failed"]
    simulated: bool
    model: str
    fastest: str | None
    models: tuple[ModelCheck, ...]
    pace: Pace
    device: CudaDevice
    jetpack: str | None
    libraries: dict[str, Any]
    groups: dict[str, Any]
    power_mode: str | None
    clocks_mhz: dict[str, Any]
    memory_mib: dict[str, Any]
    temperatures_c: dict[str, Any]
    machine: dict[str, Any]
    command: str

    def __post_init__(self) -> None:
        judged = _judged(self.models, simulated=self.simulated)
        for model, other in zip(self.models, judged, strict=True):
            if model.problems != other.problems:
                raise ValueError(f"what it says of {model.name} is not what its figures say")
        if (self.verdict == "passed") != passed(judged) or self.fastest != fastest(judged):
            raise ValueError(f"the verdict {self.verdict!r} is not what its figures say")


def make_record(
    path: Path,
    device: CudaDevice | None,
    checks: Sequence[ModelCheck],
    pace: Pace,
    before_c: dict[str, float],
    command: str,
) -> DeviceCheckRecord:
    """Judge all models of a check together and add what this machine is.

    Args:
        path: The file or package that was checked.
        device: The GPU; None where it was rehearsed on the CPU.
        checks: One for each model.
        pace: How much was timed.
        before_c: Temperatures before the first frame, in degrees Celsius.
        command: The command line.
    """
    simulated = device is None
    judged = _judged(checks, simulated=simulated)
    return DeviceCheckRecord(
        format="edgedetr-device-check-2",
        verdict="passed" if passed(judged) else "failed",
        simulated=simulated,
        model=path.name,
        fastest=fastest(judged),
        models=tuple(judged),
        pace=pace,
        device=device or CudaDevice("simulated", "0.0"),
        jetpack=system.jetpack_release(),
        libraries=system.library_versions(),
        groups=system.group_membership(),
        power_mode=system.power_mode(),
        clocks_mhz={name: list(pair) for name, pair in system.clocks_mhz().items()},
        memory_mib=system.memory_mib(),
        temperatures_c={"before": before_c, "after": system.temperatures_c()},
        machine=machine_facts("ONNX Runtime, CPU" if simulated else "on the GPU"),
        command=command,
    )


def write_record(record: DeviceCheckRecord, path: Path, key: Ed25519PrivateKey | None) -> None:
    """Write a record as JSON, and with a key its signature beside it; an old one is removed."""
    text = json.dumps(asdict(record), indent=2, allow_nan=False) + "\n"
    signature_path(path).unlink(missing_ok=True)
    write_text(path, text)
    if key:
        write_signature(path, text.encode(), key)


def read_record(path: Path) -> tuple[DeviceCheckRecord, str]:
    """Read a record, and the fingerprint of who signed it, empty where nobody did.

    Raises:
        ArtifactError: If it is missing, damaged or none, its signature is of other bytes, or it
            says other than its figures.
    """
    try:
        found = settings_from_dict(DeviceCheckRecord, read_json(path, MOST_BYTES), str(path))
    except (OSError, ValueError, SettingsError) as error:
        raise ArtifactError(
            f"{path} is no record of edgedetr device check: {error}; check the device again"
        ) from error
    return found, signer_of(path, MOST_BYTES)


def _judged(checks: Sequence[ModelCheck], *, simulated: bool) -> list[ModelCheck]:
    """Judge models by their figures; one that did not run keeps the reason.

    What a rehearsal takes on a CPU says nothing of the device, so that INT8 may be slow there.
    """
    judged = [
        replace(c, problems=problems_of(c.check, c.precision)) if c.check else _not_run(c)
        for c in checks
    ]
    return judged if simulated else without_slow_int8(judged)


def _not_run(check: ModelCheck) -> ModelCheck:
    return check if check.problems else replace(check, problems=("it did not run",))
