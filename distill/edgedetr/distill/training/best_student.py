"""The evaluated student that is best by a metric, and the end of a run that gets no better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetensors.torch import load_model as load_weights
from tqdm import tqdm

from edgedetr.distill.training.run_folder import BEST, STATE
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from edgedetr.distill.model import Model

    SaveStudent = Callable[[Path, Model, Mapping[str, float]], None]
    """Writes a checkpoint with what was measured on it."""

    Evaluations = Mapping[int, Mapping[str, float]]
    """What was measured, by epoch, counted from 0."""


@dataclass(frozen=True)
class BestStudent:
    """Keeps the best student of a run in its folder; what it knows comes from the run's log.

    Attributes:
        out: Folder of the run.
        metric: What decides, such as ``ap``; empty keeps none.
        patience: Evaluations in a row without a better student that end the run; 0 for no end.
        save: Writes the student.
    """

    out: Path
    metric: str
    patience: int
    save: SaveStudent

    def take(
        self,
        student: Model,
        metrics: Mapping[str, float],
        before: Evaluations,
    ) -> None:
        """Write a student if it is better than all before; the first of equals stays.

        Args:
            student: What was evaluated.
            metrics: What was measured on it.
            before: The evaluations before it, by epoch.
        """
        if not self.metric or math.isnan(metrics[self.metric]):
            return
        best = self.epoch(before)
        if best is None or metrics[self.metric] > before[best][self.metric]:
            self.save(self.out / BEST, student, metrics)

    def epoch(self, evaluations: Evaluations) -> int | None:
        """Return the epoch of the best student; None where there is none."""
        known = {
            epoch: metrics[self.metric]
            for epoch, metrics in evaluations.items()
            if self.metric and not math.isnan(metrics[self.metric])
        }
        return max(sorted(known), key=lambda epoch: known[epoch]) if known else None

    def is_over(self, evaluations: Evaluations) -> bool:
        """Tell whether the last evaluations, ``patience`` of them, brought nothing better."""
        if not self.patience:
            return False
        best = self.epoch(evaluations)
        since = sum(best is None or epoch > best for epoch in evaluations)
        return since >= self.patience

    def take_up(self, student: Model, evaluations: Evaluations) -> dict[str, float]:
        """Load the best student's weights; return what was measured on it, and after which epoch.

        Where there is none the student stays, and nothing is returned.

        Raises:
            ArtifactError: If the file is missing.
        """
        best = self.epoch(evaluations)
        if best is None:
            return {}
        if not (self.out / BEST).is_file():
            raise ArtifactError(
                f"{self.out / BEST} is missing, and the run has gone on since; remove "
                f"{self.out / STATE} to start anew"
            )
        load_weights(student.network, self.out / BEST)
        metrics = dict(evaluations[best])
        tqdm.write(f"the best {self.metric} is {metrics[self.metric]:.3f}, after epoch {best + 1}")
        return metrics | {"best_epoch": float(best + 1)}
