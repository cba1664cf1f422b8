"""Read a ``report.json`` back: what compares reports and judges them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgedetr.bench.report.contents import TEACHER
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import read_json
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class ReportRecord:
    """The figures of a report.

    Attributes:
        path: Of its file, for messages.
        verdict: Of all its gates.
        models: Name to the figures of each, by dotted path: ``ap``, ``latency_ms.p99``,
            ``ap50_by_class.Car``. A figure that is not defined is missing.
        frames: How many frames the models were measured on.
        data: Root, format and split of these frames.
        machine: What they were timed on.
    """

    path: str
    verdict: str
    models: dict[str, dict[str, float]]
    frames: int
    data: str
    machine: str

    def teacher(self) -> dict[str, float]:
        """Return the teacher's figures; empty where the report has none."""
        return self.models.get(TEACHER, {})


def read_report(path: str | os.PathLike[str]) -> ReportRecord:
    """Read a report that ``edgedetr report`` wrote.

    Raises:
        ArtifactError: If it is missing, damaged or no report.
    """
    try:
        values = read_json(path)
        data, machine = values["data"], values["machine"]
        return ReportRecord(
            str(path),
            printable(str(values["verdict"])),
            {printable(str(model["name"])): dict(_figures(model)) for model in values["models"]},
            int(data["frames"]),
            printable(f"{data['root']} ({data['format']}, {data['split']})"),
            printable(f"{machine['processor']}, {machine['cores']} cores"),
        )
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error.strerror}); make it with edgedetr report RUN"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path} is no report of edgedetr report ({type(error).__name__}: {error}); make it "
            "again"
        ) from error


def _figures(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield each number with its dotted path."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _figures(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value)
