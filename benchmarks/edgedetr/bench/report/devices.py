"""What devices found of a run's models: the records of edgedetr device check in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedetr.runtime.device_check.record import read_record
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import sha256

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgedetr.runtime.device_check.model_check import ModelCheck

PATTERN = "device*.json"
"""Names of records in a run's folder."""
NONE = "\N{EN DASH}"
"""What a table shows where there is no figure."""


@dataclass(frozen=True)
class DeviceModel:
    """One model on a device; figures are None where its engine did not run.

    Attributes:
        name: Its name in the record.
        sha256: Of its file.
        p50_ms: Median latency, one frame after another.
        p99_ms: At the rate, from when a frame was due.
        p999_ms: Likewise.
        late: Frames at the rate that took longer than a period.
        memory_mib: Of the device.
        problems: Why it must not ship for the device; none if it may.
    """

    name: str
    sha256: str
    p50_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    late: int | None
    memory_mib: float | None
    problems: tuple[str, ...]


@dataclass(frozen=True)
class DeviceRun:
    """One device.

    Attributes:
        file: Name of the record.
        device: The GPU.
        system: JetPack's line; empty where it is none.
        power_mode: As nvpmodel names it; empty where there is none.
        simulated: Whether it was a rehearsal on a CPU.
        signed_by: Fingerprint of who signed the record; empty where nobody did.
        rate_hz: Frames per second of the paced figures.
        frames: Frames that were timed.
        models: The run's models.
    """

    file: str
    device: str
    system: str
    power_mode: str
    simulated: bool
    signed_by: str
    rate_hz: float
    frames: int
    models: tuple[DeviceModel, ...]


def read_devices(folder: Path) -> tuple[DeviceRun, ...]:
    """Read every record of a run's folder.

    Raises:
        ArtifactError: If one is damaged, or about none of the models beside it.
    """
    records = sorted(folder.glob(PATTERN))
    models = {sha256(p) for p in folder.iterdir() if p.suffix in {".onnx", ".engine"} if records}
    return tuple(_device_run(path, models) for path in records)


def device_rows(devices: Sequence[DeviceRun]) -> list[tuple[str, ...]]:
    """Return a row of texts for each model on each device, as the report shows them."""
    return [
        (
            _place(run),
            model.name.rpartition("/")[2],
            _ms(model.p50_ms),
            _ms(model.p99_ms),
            _ms(model.p999_ms),
            NONE if model.late is None else f"{model.late} of {run.frames}",
            NONE if model.memory_mib is None else f"{model.memory_mib:.0f}",
            "; ".join(model.problems) or ("no proof" if run.simulated else "may ship"),
        )
        for run in devices
        for model in run.models
    ]


def _device_run(path: Path, models: set[str]) -> DeviceRun:
    record, signed_by = read_record(path)
    ours = [check for check in record.models if check.sha256 in models]
    if not ours:
        raise ArtifactError(
            f"{path} is about none of the models beside it; run edgedetr device check again"
        )
    return DeviceRun(
        file=path.name,
        device=record.device.name,
        system=record.jetpack or "",
        power_mode=record.power_mode or "",
        simulated=record.simulated,
        signed_by=signed_by,
        rate_hz=record.pace.rate_hz,
        frames=record.pace.frames,
        models=tuple(_device_model(check) for check in ours),
    )


def _device_model(checked: ModelCheck) -> DeviceModel:
    found = checked.check
    return DeviceModel(
        name=checked.name,
        sha256=checked.sha256,
        p50_ms=found.unpaced.p50_ms if found else None,
        p99_ms=found.paced.p99_ms if found else None,
        p999_ms=found.paced.p999_ms if found else None,
        late=found.misses if found else None,
        memory_mib=found.memory_mib if found else None,
        problems=checked.problems,
    )


def _place(run: DeviceRun) -> str:
    """Name a device and its mode, at which rate, and who answers for it."""
    if run.simulated:
        return f"rehearsal on a CPU, {run.rate_hz:g} Hz"
    mode = f", {run.power_mode}" if run.power_mode else ""
    signed = f"signed by {run.signed_by[:16]}" if run.signed_by else "not signed"
    return f"{run.device}{mode}, {run.rate_hz:g} Hz; {signed}"


def _ms(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"
