"""Which runs a folder holds, how far they came and how good they are."""

from __future__ import annotations

import fcntl
import json
import math
import os
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedetr.distill.training.run_facts import FACTS, RunFacts, read_facts
from edgedetr.distill.training.run_folder import (
    LOCK,
    METRICS,
    STATE,
    STUDENT,
    is_finished,
    read_metrics,
)
from edgedetr.runtime.errors import DataError, EdgeDetrError
from edgedetr.runtime.files import MOST_LOG_BYTES, read_bytes, without_nan
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOG = "log.jsonl"
_NONE = "-"


@dataclass(frozen=True)
class ListedRun:
    """A run's folder and its key figures; NaN and empty texts are not known.

    Attributes:
        folder: The run's folder.
        state: ``finished``, ``training``, ``stopped`` or ``broken``.
        problem: What is wrong with a broken one.
        steps: Steps that were taken.
        total_steps: Steps of the whole run; 0 where it is not known.
        ap_last: AP of the last evaluation, or of the student of a finished run.
        ap_best: The highest AP of all evaluations.
        student: Family and preset.
        teacher: As the config names it.
        methods: The methods, joined by +.
        started: When it began, in UTC, ISO 8601; of runs without ``run.json`` when they were last
            written.
        seconds: How long a finished run trained; of others from their start to their last step.
    """

    folder: str
    state: str
    problem: str = ""
    steps: int = 0
    total_steps: int = 0
    ap_last: float = math.nan
    ap_best: float = math.nan
    student: str = ""
    teacher: str = ""
    methods: str = ""
    started: str = ""
    seconds: float = math.nan

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        found: dict[str, Any] = without_nan(asdict(self))
        return found


def listed(root: Path) -> list[ListedRun]:
    """List the runs in a folder and below it.

    Raises:
        DataError: If there is no such folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; wanted one that holds runs")
    return [_run(folder, root) for folder in _folders(root)]


def sorted_by(runs: Sequence[ListedRun], key: str) -> list[ListedRun]:
    """Sort runs by ``date``, ``ap`` or ``steps``, the highest first, or ``name`` or ``state``."""
    by_name = sorted(runs, key=lambda run: run.folder)
    if key == "name":
        return by_name
    if key == "state":
        return sorted(by_name, key=lambda run: run.state)
    if key == "ap":
        return sorted(by_name, key=lambda run: -run.ap_last if run.ap_last >= 0 else math.inf)
    if key == "steps":
        return sorted(by_name, key=lambda run: -run.steps)
    return sorted(by_name, key=lambda run: run.started, reverse=True)


def as_text(runs: Sequence[ListedRun]) -> list[str]:
    """Return a table of runs, one line each below its heading."""
    rows: list[tuple[str, ...]] = [
        ("run", "state", "steps", "AP", "best", "student", "methods", "teacher", "began", "time")
    ]
    rows += [_row(run) for run in runs]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _row(run: ListedRun) -> tuple[str, ...]:
    steps = f"{run.steps}/{run.total_steps}" if run.total_steps else str(run.steps or _NONE)
    texts = (run.student, run.methods, Path(run.teacher).name, run.started[:16].replace("T", " "))
    return (
        printable(run.folder),
        run.state,
        steps,
        _per_cent(run.ap_last),
        _per_cent(run.ap_best),
        *(printable(text) or _NONE for text in texts),
        _duration(run.seconds),
    )


def _per_cent(share: float) -> str:
    return _NONE if math.isnan(share) else f"{100 * share:.1f} %"


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return _NONE
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def _folders(root: Path) -> Iterator[Path]:
    """Give every folder that a run has written to, sorted; links are not followed."""
    marks = {FACTS, LOG, STATE}
    for name, folders, files in os.walk(root):
        folders.sort()
        if not marks.isdisjoint(files) or {METRICS, STUDENT} <= set(files):
            yield Path(name)


def _run(folder: Path, root: Path) -> ListedRun:
    name = str(folder.relative_to(root)) if folder != root else str(folder)
    try:
        return _read(folder, name)
    except (EdgeDetrError, OSError, ValueError) as error:
        return ListedRun(name, "broken", str(error))


def _read(folder: Path, name: str) -> ListedRun:
    """Read a run; raises EdgeDetrError, OSError or ValueError where it is broken."""
    log = folder / LOG
    steps, aps = _progress(log) if log.is_file() else (0, [])
    written = log if log.is_file() else folder
    last = datetime.fromtimestamp(written.stat().st_mtime, timezone.utc)
    started, seconds, record = last.isoformat(timespec="seconds"), math.nan, None
    try:
        facts = read_facts(folder)
        started = facts.started
        seconds = max(0.0, (last - datetime.fromisoformat(started)).total_seconds())
    except FileNotFoundError:
        facts = RunFacts({}, "", 0, started)
    ap = aps[-1] if aps else math.nan
    if finished := is_finished(folder):
        record = read_metrics(folder)
        figures = record["metrics"]
        ap = figures["ap"] if figures.get("ap") is not None else math.nan
        seconds = figures.get("seconds", seconds)
        facts = facts if facts.config else RunFacts(record["config"], "", 0, started)
    return ListedRun(
        name,
        "finished" if finished else "training" if _is_locked(folder) else "stopped",
        "",
        steps,
        facts.steps,
        ap,
        max([*aps, *([ap] if finished and not math.isnan(ap) else [])], default=math.nan),
        facts.student,
        facts.teacher,
        facts.methods,
        started,
        seconds,
    )


def _progress(log: Path) -> tuple[int, list[float]]:
    """Return how many steps a log has, and the AP of each evaluation; torn lines do not count."""
    lines = read_bytes(log, MOST_LOG_BYTES).splitlines()
    aps = [record["ap"] for line in lines if (record := _record(line, b'"evaluation"')).get("ap")]
    steps = (_record(line, b'"step"') for line in reversed(lines))
    last = next((record["step"] for record in steps if record.get("kind") == "step"), -1)
    return last + 1, aps


def _record(line: bytes, kind: bytes) -> dict[str, Any]:
    """Read a line of a log if it is of a kind; nothing of others."""
    if kind not in line:
        return {}
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _is_locked(folder: Path) -> bool:
    """Tell whether a process is training in a folder."""
    try:
        with (folder / LOCK).open("r+", encoding="utf-8") as file:
            fcntl.lockf(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
