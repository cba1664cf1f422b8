"""Run a study: processes side by side that take the next run, until all is done or time is over."""

from __future__ import annotations

import json
import time
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from typing_extensions import override

from edgedetr.bench.study.plan import best_try, runs_of
from edgedetr.bench.study.training import OutOfTimeError
from edgedetr.bench.study.workshop import PARTS, Workshop
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.files import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from edgedetr.bench.study.plan import Key, Pair, Run, Try
    from edgedetr.bench.study.workshop import Study

Result = TypeVar("Result")


def run_study(
    study: Study, records_path: Path, workers: int, say: Callable[[str], None]
) -> dict[Key, dict[str, Any]]:
    """Train what is not trained yet; write the records anew whenever a run ends.

    Args:
        study: What to train.
        records_path: JSON lines; runs that stand there are not trained again, so that an
            interrupted study goes on, and studies are joined by joining these files.
        workers: Processes side by side; a single one is this process.
        say: Takes a line of progress.

    Returns:
        All records, those that were there before too.

    Raises:
        ArtifactError: If the records are damaged.
        UsageError: If they are of other code or of runs of another length.
    """
    records = read_records(records_path)
    check_records(study.pairs, records, study.code)
    waiting = [run for run in runs_of(study.pairs) if run.key not in records]
    if not waiting:
        return records
    records_path.parent.mkdir(parents=True, exist_ok=True)
    with _executor(study, workers) as pool:
        if not _augmented(study, pool):
            return records
        running: dict[Future[dict[str, Any]], Run] = {}
        while True:
            _fill(study, pool, waiting, running, workers, records)
            if not running:
                return records
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                run = running.pop(future)
                record = _result(future, run, say)
                if record is not None:
                    records[run.key] = record
                    write_records(records_path, records)


def _augmented(study: Study, pool: Executor) -> bool:
    """Augment all data sets side by side; tell whether there was time for it."""
    made = [pool.submit(_augment, name, part) for name in study.data for part in range(PARTS)]
    try:
        for part in made:
            part.result()
    except OutOfTimeError:
        return False
    return True


def read_records(path: Path) -> dict[Key, dict[str, Any]]:
    """Read the runs of a study by their key; none where there is no file.

    Raises:
        ArtifactError: If a line is no record.
    """
    if not path.is_file():
        return {}
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {(r["pair"], r["arm"], r["kind"], r["number"]): r for r in records}
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: a line is no record of a run: {error}; remove it") from error


def write_records(path: Path, records: Mapping[Key, dict[str, Any]]) -> None:
    """Write the runs of a study, one a line."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records.values()))


def check_records(
    pairs: Mapping[str, Pair], records: Mapping[Key, dict[str, Any]], code: str
) -> None:
    """Refuse records that cannot be mixed with the runs of a study.

    Raises:
        UsageError: If they are of other code or of another length.
    """
    for run in runs_of(pairs):
        record = records.get(run.key)
        if record is None:
            continue
        name = "/".join(map(str, run.key))
        if record["code"] != code:
            raise UsageError(f"the records' {name} is of other code; begin a new file")
        steps = 0 if run.kind == "teacher" else pairs[run.pair].steps_of(run.arm)
        if record["steps"] != steps:
            raise UsageError(
                f"the records' {name} has {record['steps']} steps, wanted are {steps}; "
                "begin a new file, or give --scale as before"
            )


def _fill(
    study: Study,
    pool: Executor,
    waiting: list[Run],
    running: dict[Future[dict[str, Any]], Run],
    workers: int,
    records: Mapping[Key, Any],
) -> None:
    """Give every idle worker a run."""
    while len(running) < workers:
        found = _next(study, waiting, records)
        if found is None:
            return
        waiting.remove(found[0])
        running[pool.submit(_train, *found)] = found[0]


def _next(study: Study, waiting: list[Run], records: Mapping[Key, Any]) -> tuple[Run, Try] | None:
    """Return the first run whose tuning is known and for which there is time."""
    left = study.until - time.monotonic()
    for run in waiting:
        chosen = best_try(study.pairs[run.pair], run, records)
        if chosen is not None and expected_seconds(study, run, records) < left:
            return run, chosen
    return None


def expected_seconds(study: Study, run: Run, records: Mapping[Key, Any]) -> float:
    """Return how long a run will take, by the slowest finished one of its arm, or of its pair."""
    if run.kind == "teacher":
        return 0.0
    alike = [r for r in records.values() if r["pair"] == run.pair and r["steps"]]
    own = [r for r in alike if r["arm"] == run.arm] or alike
    by_step = max((r["seconds"] / r["steps"] for r in own), default=0.0)
    return float(by_step * study.pairs[run.pair].steps_of(run.arm))


def _result(
    future: Future[dict[str, Any]], run: Run, say: Callable[[str], None]
) -> dict[str, Any] | None:
    name = "/".join(map(str, run.key))
    try:
        record = future.result()
    except OutOfTimeError:
        return None
    except torch.OutOfMemoryError as error:
        say(f"{name}: {str(error).splitlines()[0]}")
        return None
    say(f"{name}: AP {record['ap']:.1f}, {record['steps']} steps, {record['seconds']:.0f} s")
    return record


class _ThisProcess(Executor):
    """Does what is submitted at once."""

    @override
    def submit(
        self,
        fn: Callable[..., Result],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Future[Result]:
        future: Future[Result] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _executor(study: Study, workers: int) -> Executor:
    if workers > 1:
        return ProcessPoolExecutor(workers, get_context("spawn"), _start_process, (study,))
    _start(study)
    return _ThisProcess()


_workshop: Workshop


def _start(study: Study) -> None:
    """Set a worker up."""
    global _workshop  # noqa: PLW0603 - what a process is given once
    _workshop = Workshop(study)


def _start_process(study: Study) -> None:
    """Set a worker process up."""
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    _start(study)


def _augment(name: str, part: int) -> None:
    _workshop.augment(name, part)


def _train(run: Run, chosen: Try) -> dict[str, Any]:
    return _workshop.train(run, chosen)
