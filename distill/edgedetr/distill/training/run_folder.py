"""The folder of a run: one run at a time, and a finished one is kept."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

from edgedetr.distill.training.run_identity import settings_of, source_file
from edgedetr.distill.weights.checkpoint import save_model
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.files import atomic_path, read_json, read_text, without_nan, write_text
from edgedetr.runtime.manifest import manifest_path, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from edgedetr.distill.model import Model
    from edgedetr.distill.training.run_identity import RunIdentity

STUDENT = "student.safetensors"
METRICS = "metrics.json"
STATE = "state.safetensors"
"""What a run writes after each epoch, to resume from."""
_MOST_OWNER_BYTES = 64
OLDER_STATES = "state.*.safetensors"
"""The states before it, the newest as ``state.1.safetensors``."""
BEST = "best.safetensors"
"""The best student so far of a run that keeps it."""
LOCK = "run.lock"
UNFINISHED = ".*.tmp"
"""What a run that was killed while it wrote a file leaves of it."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@dataclass(frozen=True)
class RunRecord:
    """What a run writes of its origin beside its student.

    Attributes:
        settings: What `DistillConfig.record` gives.
        weights: The files of weights that it starts from, by setting; empty ones are not used.
        validation: The split that it is evaluated on, in words.
        command: The command that started it.
        track: The trackers that it is logged with.
    """

    settings: Mapping[str, object]
    weights: Mapping[str, str]
    validation: str
    command: str
    track: tuple[str, ...] = ()


@contextmanager
def only_run_in(out: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made when it is missing, and not left empty.

    The lock is this process's alone and ends with it, however that ends; a loader process that
    outlives it does not hold it. A file system that knows no locks has none.

    Raises:
        UsageError: If another run is using it, or it is a file.
    """
    if out.is_file():
        raise UsageError(f"{out} is a file; choose a folder for the run: --out")
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    path = out / LOCK
    with _locked(path) as file:
        try:
            _sign(file.fileno(), path)
            for left in out.glob(UNFINISHED):
                left.unlink()
            yield
        finally:
            path.unlink(missing_ok=True)
            for folder in made:
                if not any(folder.iterdir()):
                    folder.rmdir()


def _locked(path: Path) -> TextIO:
    """Open and lock a file; one that the run before takes away meanwhile is made anew."""
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            _lock(file.fileno(), path)
            if _is(path, file.fileno()):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _sign(descriptor: int, path: Path) -> None:
    """Write which process has the lock."""
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _lock(descriptor: int, path: Path) -> None:
    """Take the lock; ``flock``'s would pass on to every process that is forked."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = read_text(path, _MOST_OWNER_BYTES).strip()
        raise UsageError(
            f"{path.parent}: another run{f' (process {owner})' * bool(owner)} is using it; "
            "wait for it, or choose another --out"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def finished_metrics(out: Path, identity: RunIdentity) -> dict[str, float] | None:
    """Return the metrics of the finished run in a folder; None where there is none.

    Raises:
        ArtifactError: If it is a run of other settings or sources, or a student lies there that no
            run of this folder made.
    """
    if not is_finished(out):
        if (out / STUDENT).is_file() and not (out / STATE).is_file():
            raise ArtifactError(
                f"{out / STUDENT} exists without {METRICS} or {STATE}: no run can be resumed "
                "from it; choose another --out, or remove it"
            )
        return None
    record = read_metrics(out)
    refuse_other(out, record, identity)
    read_manifest(out / STUDENT)
    _remove_states(out)
    tqdm.write(f"{out}: up to date, the run is finished")
    return {k: math.nan if v is None else float(v) for k, v in record["metrics"].items()}


def finish(
    out: Path,
    student: Model,
    metrics: dict[str, float],
    record: RunRecord,
    sources: Mapping[str, str],
) -> None:
    """Write the student, its manifest and its metrics; then the state is not needed any more."""
    save_student(out / STUDENT, student, metrics, record)
    written = {
        "config": record.settings,
        "sources": sources,
        "metrics": without_nan(metrics),
        "command": record.command,
    }
    write_text(out / METRICS, json.dumps(written, indent=2) + "\n")
    _remove_states(out)


def save_student(
    path: Path, student: Model, metrics: Mapping[str, float], record: RunRecord
) -> None:
    """Write a student of a run, and its manifest with what was measured on it."""
    save_model(
        path,
        student,
        command=record.command,
        parents=[source_file(*named) for named in record.weights.items() if named[1]],
        summary=f"AP {metrics['ap']:.3f}, AP50 {metrics['ap50']:.3f} on {record.validation}",
    )


def keep_older_states(out: Path, count: int) -> None:
    """Name the newest state ``state.1.safetensors`` too, and so on, before it is written anew.

    Args:
        out: Folder of the run.
        count: How many older ones are kept; what is older still is removed.
    """
    for number in range(count, 0, -1):
        newer = out / (f"state.{number - 1}.safetensors" if number > 1 else STATE)
        if newer.is_file():
            with atomic_path(out / f"state.{number}.safetensors") as copy:
                shutil.copyfile(newer, copy)
    for path in out.glob(OLDER_STATES):
        if not path.name.split(".")[1].isdecimal() or int(path.name.split(".")[1]) > count:
            path.unlink()


def _remove_states(out: Path) -> None:
    """Remove what only an unfinished run needs."""
    for path in (out / STATE, *out.glob(OLDER_STATES), out / BEST, manifest_path(out / BEST)):
        path.unlink(missing_ok=True)


def is_finished(out: Path) -> bool:
    """Tell whether a folder holds a finished run."""
    return (out / METRICS).is_file() and (out / STUDENT).is_file()


def refuse_other(out: Path, record: dict[str, Any], identity: RunIdentity) -> None:
    """Refuse a finished run, given its ``metrics.json``, that is not the one that is wanted."""
    other = identity.difference(settings_of(record["config"]), record.get("sources", {}))
    if other:
        raise ArtifactError(
            f"{out} is a finished run of another config ({other}); choose another --out, or remove "
            "that folder"
        )


def read_metrics(out: Path) -> dict[str, Any]:
    """Read the ``metrics.json`` of a finished run.

    Raises:
        ArtifactError: If it is damaged.
    """
    path = out / METRICS
    try:
        record = read_json(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not a readable JSON file: {error}; remove it") from error
    parts = (record.get("config"), record.get("sources", {}), record.get("metrics"))
    figures = parts[2].values() if isinstance(parts[2], dict) else ()
    whole = all(isinstance(part, dict) for part in parts)
    if not whole or not all(v is None or isinstance(v, (int, float)) for v in figures):
        raise ArtifactError(f"{path}: holds no config and metrics of a run; remove it")
    return record
