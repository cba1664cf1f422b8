"""Run a study: processes side by side that take the next run, until all is done or time is over."""

from __future__ import annotations

import json
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgedetr.bench.study.frames import Frames, unpack
from edgedetr.bench.study.plan import Pair, Run, Try, best_try, runs_of
from edgedetr.bench.study.training import Answers, Job, OutOfTimeError, Shelf, score, trained
from edgedetr.distill.augment import augmented
from edgedetr.distill.checkpoint import load_model
from edgedetr.runtime.errors import ArtifactError, EdgeDetrError
from edgedetr.runtime.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgedetr.distill.model import Model

Key = tuple[str, str, str, int]

PARTS = 16
"""In how many parts a data set is augmented, side by side."""


@dataclass(frozen=True)
class Study:
    """What all processes of a study share.

    Attributes:
        pairs: By name.
        folder: Of the packed frames, ``<data>.npz``.
        root: The project's, where teachers lie.
        variants: Augmented copies of each training image.
        until: When no run may go on, on `time.monotonic`'s clock, which all processes share.
    """

    pairs: Mapping[str, Pair]
    folder: Path
    root: Path
    variants: int
    until: float

    @property
    def data(self) -> list[str]:
        """Names of the packed frames."""
        return sorted({pair.data for pair in self.pairs.values()})


def run_study(
    study: Study, records_path: Path, workers: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Train what is not trained yet; append a line to the records for every run that ends.

    Args:
        study: What to train.
        records_path: JSON lines; runs that stand there are not trained again, so that an
            interrupted study goes on, and studies are joined by joining these files.
        workers: Processes side by side.
        say: Takes a line of progress.

    Returns:
        All records, those that were there before too.
    """
    records = read_records(records_path)
    waiting = [run for run in runs_of(study.pairs) if run.key not in records]
    running: dict[Future[dict[str, Any]], Run] = {}
    records_path.parent.mkdir(parents=True, exist_ok=True)
    with (
        records_path.open("a", encoding="utf-8") as file,
        ProcessPoolExecutor(workers, get_context("spawn"), _start, (study,)) as pool,
    ):
        wait([pool.submit(_augment, name, part) for name in study.data for part in range(PARTS)])
        while True:
            for _ in range(workers - len(running)):
                found = _next(study, waiting, records)
                if found is None:
                    break
                waiting.remove(found[0])
                running[pool.submit(_work, *found)] = found[0]
            if not running:
                break
            done, _ = wait(running, timeout=5, return_when=FIRST_COMPLETED)
            for future in done:
                run = running.pop(future)
                record = _result(future, run, say)
                if record is not None:
                    records[run.key] = record
                    file.write(json.dumps(record) + "\n")
                    file.flush()
    return list(records.values())


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
    except (ValueError, KeyError) as error:
        raise ArtifactError(f"{path}: a line is no record of a run: {error}; remove it") from error


def _augment(name: str, part: int) -> None:
    """Augment one part of a data set's training images; keep it beside the packed frames."""
    path = _augmented_path(name, part)
    if path.is_file():
        return
    frames = unpack(_study.folder / f"{name}.npz")[1]["train"]
    first, last = (len(frames) * p // PARTS for p in (part, part + 1))
    made = [_variants_of(frames, index, _study.variants) for index in range(first, last)]
    pixels = torch.stack([torch.stack([p for p, _ in one]) for one in made], 1)
    targets = [[one[v][1] for one in made] for v in range(_study.variants)]
    with atomic_path(path) as temporary:
        torch.save((pixels, targets), temporary)


def _variants_of(frames: Frames, index: int, count: int) -> list[tuple[Any, Any]]:
    pixels, targets = frames.pixels[index], frames.targets[index]
    seeds = np.random.SeedSequence([7, index]).generate_state(count)
    return [augmented(pixels, targets, "strong", int(seed)) for seed in seeds]


def _augmented_path(name: str, part: int) -> Path:
    return _study.folder / f"{name}.{_study.variants}.{part}.pt"


def _next(study: Study, waiting: list[Run], records: Mapping[Key, Any]) -> tuple[Run, Try] | None:
    """Return the first run whose tuning is known and for which there is time."""
    left = study.until - time.monotonic()
    for run in waiting:
        chosen = best_try(study.pairs[run.pair], run, records)
        if chosen is not None and _expected_seconds(study, run, records) < left:
            return run, chosen
    return None


def _expected_seconds(study: Study, run: Run, records: Mapping[Key, Any]) -> float:
    """Return how long a run will take, by the slowest finished one of its arm, or of its pair."""
    pair = study.pairs[run.pair]
    alike = [r for r in records.values() if r["pair"] == run.pair]
    own = [r for r in alike if r["arm"] == run.arm] or alike
    by_step = max((r["seconds"] / r["steps"] for r in own), default=0.0)
    return by_step * pair.steps * pair.arms[run.arm].length


def _result(
    future: Future[dict[str, Any]], run: Run, say: Callable[[str], None]
) -> dict[str, Any] | None:
    try:
        record = future.result()
    except OutOfTimeError:
        return None
    except (EdgeDetrError, RuntimeError) as error:
        say(f"{'/'.join(map(str, run.key))}: {error}")
        return None
    say(
        f"{'/'.join(map(str, run.key))}: AP {record['ap']:.1f}, {record['steps']} steps of "
        f"{record['step_ms']:.0f} ms, {record['seconds']:.0f} s in all"
    )
    return record


_study: Study
_shelves: dict[str, tuple[Shelf, Model, list[Answers]]] = {}


def _start(study: Study) -> None:
    """Set a worker process up."""
    global _study  # noqa: PLW0603 - what a process is given once
    _study = study
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True


def _work(run: Run, chosen: Try) -> dict[str, Any]:
    """Train one run in a worker."""
    pair = _study.pairs[run.pair]
    shelf, teacher, answers = _shelf(pair)
    needs = pair.arms[run.arm].methods != ("none",)
    if needs and not answers:
        answers.append(Answers(teacher, shelf))
    return trained(
        Job(
            run,
            pair,
            chosen,
            shelf,
            teacher,
            answers[0] if needs else None,
            lambda: time.monotonic() > _study.until,
        )
    )


def _shelf(pair: Pair) -> tuple[Shelf, Model, list[Answers]]:
    """Give a pair's data and teacher, made when first asked for; the process keeps one pair's."""
    key = f"{pair.data} {pair.teacher}"
    if key not in _shelves:
        _shelves.clear()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        spec, frames = unpack(_study.folder / f"{pair.data}.npz")
        parts = [
            torch.load(_augmented_path(pair.data, part), weights_only=False)
            for part in range(PARTS)
        ]
        targets = [[t for _, rows in parts for t in rows[v]] for v in range(_study.variants)]
        shelf = Shelf(
            torch.cat([pixels for pixels, _ in parts], 1).to(device),
            [[t.to(device) for t in row] for row in targets],
            spec,
            frames["tune"],
            frames["test"],
        )
        teacher = load_model(_study.root / pair.teacher)
        teacher.network.to(device).eval().requires_grad_(requires_grad=False)
        _shelves[key] = shelf, teacher, []
    return _shelves[key]


def teacher_scores(study: Study) -> dict[str, dict[str, float]]:
    """Score each pair's teacher on the test split, at the study's input."""
    global _study  # noqa: PLW0603 - this process works too
    _study = study
    found = {}
    for name, pair in study.pairs.items():
        shelf, teacher, _ = _shelf(pair)
        found[name] = score(teacher, shelf.test, shelf.pixels.device)
    return found
