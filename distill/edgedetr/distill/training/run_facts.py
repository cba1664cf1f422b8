"""``run.json``: what a run is, written when it begins; its log says how far it came."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import read_json, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FACTS = "run.json"


@dataclass(frozen=True)
class RunFacts:
    """What a run is.

    Attributes:
        config: Its settings, as `DistillConfig.record` gives them.
        command: The command that started it last.
        steps: Of the whole run.
        started: When it began, in UTC, ISO 8601 to the second.
    """

    config: Mapping[str, Any]
    command: str
    steps: int
    started: str

    @property
    def methods(self) -> str:
        """The methods, joined by +."""
        return "+".join(self.config.get("methods", ()))

    @property
    def student(self) -> str:
        """Family and preset of the student."""
        student = self.config.get("student", {})
        return f"{student.get('family', '?')}/{student.get('preset', '?')}"

    @property
    def teacher(self) -> str:
        """The teacher as the config names it; empty without one."""
        return str(self.config.get("teacher", ""))


def now() -> str:
    """Return the time in UTC, ISO 8601 to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def note_facts(out: Path, config: Mapping[str, Any], command: str, steps: int) -> RunFacts:
    """Write the facts of a run that begins or goes on; one that goes on keeps when it began."""
    try:
        started = read_facts(out).started
    except (FileNotFoundError, ArtifactError):
        started = now()
    facts = RunFacts(config, command, steps, started)
    write_text(out / FACTS, json.dumps(asdict(facts), indent=1) + "\n")
    return facts


def read_facts(out: Path) -> RunFacts:
    """Read the facts of a run.

    Raises:
        FileNotFoundError: If there are none.
        ArtifactError: If they are damaged.
    """
    path = out / FACTS
    try:
        values = read_json(path)
        facts = RunFacts(**values)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"{path}: not the facts of a run: {error}; remove it") from error
    kinds = (dict, str, int, str)
    values_are = zip((facts.config, facts.command, facts.steps, facts.started), kinds, strict=True)
    if not all(isinstance(value, kind) for value, kind in values_are):
        raise ArtifactError(f"{path}: not the facts of a run; remove it")
    return facts
