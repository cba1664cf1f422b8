"""The log of a run: ``log.jsonl`` and TensorBoard scalars, written step by step."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import MOST_LOG_BYTES, read_bytes, without_nan, write_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


class Watcher(Protocol):
    """Is told what the log of a run is told, in the process that writes it."""

    def start(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Begin with what the log of a run that goes on has already; nothing of a new one."""
        ...

    def step(self, step: int, epoch: int, terms: Mapping[str, float]) -> None:
        """Take one training step."""
        ...

    def evaluation(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Take one evaluation."""
        ...

    def close(self) -> None:
        """End, whether the run came to its end or not."""
        ...


class RunLog:
    """``log.jsonl`` and TensorBoard scalars of one run; a resumed run goes on where it was.

    Lines of epochs that are trained again are dropped, and so is one that a full disk or a kill
    tore.

    Args:
        out: Folder of the run.
        done_epochs: Epochs that are not trained again.
        steps_per_epoch: Steps of each.
        done_steps: Steps of the epoch after them that are not taken again either.
        watchers: Are told all that the log is told.

    Attributes:
        evaluations: What was measured, by epoch, counted from 0.
    """

    def __init__(
        self,
        out: Path,
        done_epochs: int,
        steps_per_epoch: int,
        done_steps: int = 0,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        self._watchers = watchers
        self._path = out / "log.jsonl"
        first_step = done_epochs * steps_per_epoch + done_steps
        records, torn = _read(self._path) if first_step and self._path.is_file() else ([], 0)
        kept = [r for r in records if r["epoch"] < done_epochs or _is_done(r, first_step)]
        if torn:
            tqdm.write(
                f"{self._path}: {torn} incomplete line{'s' * (torn > 1)} removed", file=sys.stderr
            )
        self.evaluations = {
            r["epoch"]: {
                k: math.nan if v is None else v
                for k, v in r.items()
                if k not in ("kind", "step", "epoch")
            }
            for r in kept
            if r["kind"] == "evaluation"
        }
        with _named(self._path):
            write_text(self._path, "".join(json.dumps(record) + "\n" for record in kept))
            self._file = self._path.open("a", encoding="utf-8")
        self._scalars = _Scalars(out / "tensorboard", first_step)
        for watcher in watchers:
            watcher.start(kept)

    def step(self, step: int, epoch: int, terms: dict[str, float]) -> None:
        """Write one training step; its ``seconds`` leave out loading the batch."""
        self._write("step", step, epoch, terms)
        for watcher in self._watchers:
            watcher.step(step, epoch, terms)

    def evaluation(self, step: int, epoch: int, metrics: dict[str, float]) -> None:
        """Write one evaluation."""
        self.evaluations[epoch] = metrics
        self._write("evaluation", step, epoch, metrics)
        self._scalars.flush()
        for watcher in self._watchers:
            watcher.evaluation(step, epoch, metrics)

    def close(self) -> None:
        """Flush and close all."""
        with ExitStack() as stack:
            for watcher in self._watchers:
                stack.callback(watcher.close)
            stack.callback(self._scalars.close)
            with _named(self._path):
                self._file.close()

    def _write(self, kind: str, step: int, epoch: int, figures: dict[str, float]) -> None:
        record = {"kind": kind, "step": step, "epoch": epoch, **without_nan(figures)}
        with _named(self._path):
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        self._scalars.add(kind, step, figures)


class _Scalars:
    """An event file of TensorBoard, written in the calling thread: a full disk is met there."""

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        with _named(self._path):
            self._records = RecordWriter(self._path.open("wb"))
        self._event(step=first_step, file_version="brain.Event:2")
        restart = SessionLog(status=SessionLog.START)  # hides what an earlier file has from here on
        self._event(step=first_step, session_log=restart)

    def add(self, kind: str, step: int, figures: dict[str, float]) -> None:
        values = [
            Summary.Value(tag=f"{kind}/{name}", simple_value=value)
            for name, value in figures.items()
        ]
        self._event(step=step, summary=Summary(value=values))

    def flush(self) -> None:
        with _named(self._path):
            self._records.flush()

    def close(self) -> None:
        with _named(self._path):
            self._records.close()

    def _event(self, **content: object) -> None:
        event = Event(wall_time=time.time_ns() / 1e9, **content)
        with _named(self._path):
            self._records.write(event.SerializeToString())


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Add the name of the file to an error of one that is open already."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the whole records of a log, and how many lines are none."""
    try:
        lines = read_bytes(path, MOST_LOG_BYTES).splitlines()
    except ValueError as error:
        raise ArtifactError(f"{path}: not the log of a run: {error}; move it away") from error
    records = [record for line in lines if (record := _record(line)) is not None]
    return records, len(lines) - len(records)


def _is_done(record: dict[str, Any], first_step: int) -> bool:
    """Tell whether a record is a step before the one that a resumed run begins with."""
    step = record.get("step")
    return record["kind"] == "step" and isinstance(step, int) and step < first_step


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = isinstance(record, dict) and isinstance(record.get("epoch"), int) and "kind" in record
    return cast("dict[str, Any]", record) if known else None
