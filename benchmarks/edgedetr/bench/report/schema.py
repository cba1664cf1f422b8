"""The JSON Schema (draft 2020-12) of ``report.json``, for programs of others that read it."""

from __future__ import annotations

from pathlib import Path

_FILE = Path(__file__).with_name("report.schema.json")


def report_schema() -> str:
    """Return the schema as text."""
    return _FILE.read_text(encoding="utf-8")
