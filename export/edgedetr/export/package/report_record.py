"""Read back what ``edgedetr report`` wrote: which models it measured, and what was checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgedetr.export.verify.record import read_text, read_verdict
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import read_json
from edgedetr.runtime.package.reader import MAX_JSON_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.export.verify.lost_share import Verdict


@dataclass(frozen=True)
class ReportRecord:
    """The part of ``report.json`` by which a model may ship.

    Attributes:
        path: The file.
        models: SHA-256 of every model that was measured, by its name, see
            `edgedetr.graph.checksum.model_sha256`.
        verdict: What all gates say together, in a word; empty in older reports.
        verdicts: What each check of two models said, by the name of its file.
    """

    path: Path
    models: dict[str, str]
    verdict: str
    verdicts: dict[str, Verdict]


def read_report_record(path: Path) -> ReportRecord:
    """Read a ``report.json``.

    Raises:
        ArtifactError: If it is missing, damaged, none, or from before reports held hashes.
    """
    try:
        values = read_json(path, MAX_JSON_BYTES)
        return ReportRecord(
            path=path,
            models={
                read_text(model, "name"): read_text(model, "sha256")
                for model in _objects(values, "models")
            },
            verdict=read_text({"verdict": "", **values}, "verdict"),
            verdicts={read_text(p, "name"): read_verdict(p) for p in _objects(values, "parity")},
        )
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path} is no report.json of edgedetr report that names its models by SHA-256: "
            f"{error}; run edgedetr report again"
        ) from error


def _objects(values: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = values.get(key)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError(f"{key!r} must be a list of objects, found {found!r:.60}")
    return found
