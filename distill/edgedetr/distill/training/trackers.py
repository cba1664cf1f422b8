"""MLflow and Weights & Biases, where a config asks for them, through Accelerate's trackers.

Both go where their own variables say (``MLFLOW_TRACKING_URI``, ``WANDB_MODE`` and so on). A tracker
that fails is left out from there on, with one line: no run ends for it. A run that goes on, goes on
in the same run of the tracker.
"""

from __future__ import annotations

import json
import math
import secrets
import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from accelerate.tracking import MLflowTracker, WandBTracker
from tqdm import tqdm

from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.files import read_json, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from accelerate.tracking import GeneralTracker

PROJECT = "edgedetr"
IDS = "trackers.json"
"""In the run's folder: the id of the run in each tracker."""
MOST_RATE_HZ = 1.0
"""Steps a second that a tracker gets at most; it gets every evaluation."""


def require_trackers(names: Sequence[str]) -> None:
    """Stop where a tracker is not installed; raises UsageError."""
    for name in names:
        if find_spec(name) is None:
            raise UsageError(
                f"track = {name!r}: it is not installed; pip install {_PACKAGES[name]}, or leave "
                "it out of track"
            )


class Tracked:
    """A run in one tracker.

    Args:
        name: ``mlflow`` or ``wandb``.
        out: The run's folder, whose name the run gets.
        settings: The run's settings by ``table.key``.
    """

    def __init__(self, name: str, out: Path, settings: Mapping[str, Any]) -> None:
        self._name, self._out, self._settings = name, out, settings
        self._tracker: GeneralTracker | None = None
        self._due = 0.0

    def start(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Open the run in the tracker, the one before where this one goes on."""
        ids = _ids(self._out) if records else {}

        def begin() -> None:
            tracker, run = _STARTS[self._name](self._out, ids.get(self._name))
            self._tracker = tracker
            tracker.store_init_configuration(dict(self._settings))
            write_text(self._out / IDS, json.dumps({**_ids(self._out), self._name: run}) + "\n")

        self._attempt(begin)

    def step(self, step: int, epoch: int, terms: Mapping[str, float]) -> None:
        """Log a step, unless the last was a moment ago."""
        if time.perf_counter() >= self._due:
            self._due = time.perf_counter() + 1 / MOST_RATE_HZ
            self._log("step", step, {**terms, "epoch": epoch})

    def evaluation(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None:  # noqa: ARG002 - a watcher's
        """Log an evaluation."""
        self._log("evaluation", step, metrics)

    def close(self) -> None:
        """End the run in the tracker."""
        if self._tracker is not None:
            self._attempt(self._tracker.finish)

    def _log(self, kind: str, step: int, figures: Mapping[str, float]) -> None:
        if self._tracker is not None:
            finite = {f"{kind}/{k}": v for k, v in figures.items() if math.isfinite(v)}
            tracker = self._tracker
            self._attempt(lambda: tracker.log(finite, step=step))

    def _attempt(self, work: Callable[[], object]) -> None:
        """Do what may fail for reasons that are the tracker's own; it is left out then."""
        try:
            work()
        except Exception as error:  # a service's own errors have no class in common
            self._tracker = None
            said = " ".join(str(error).split()) or type(error).__name__
            tqdm.write(f"warning: {self._name} is left out: {said}", file=sys.stderr)


def _mlflow(out: Path, run: str | None) -> tuple[GeneralTracker, str]:
    tracker = MLflowTracker(PROJECT, run_id=run, run_name=out.resolve().name)
    tracker.start()
    return tracker, str(tracker.tracker.info.run_id)


def _wandb(out: Path, run: str | None) -> tuple[GeneralTracker, str]:
    run = run or secrets.token_hex(4)
    options = {"id": run, "name": out.resolve().name, "dir": str(out), "resume": "allow"}
    tracker = WandBTracker(PROJECT, **options)
    tracker.start()
    return tracker, run


def _ids(out: Path) -> dict[str, str]:
    """Read the ids of a run; none where there are none."""
    try:
        return {k: v for k, v in read_json(out / IDS).items() if isinstance(v, str)}
    except (OSError, ValueError):
        return {}


_STARTS: dict[str, Callable[[Path, str | None], tuple[GeneralTracker, str]]] = {
    "mlflow": _mlflow,
    "wandb": _wandb,
}
_PACKAGES = {"mlflow": "mlflow-skinny", "wandb": "wandb"}
