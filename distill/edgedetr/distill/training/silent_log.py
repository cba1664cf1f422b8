"""The log of a process that writes none: one process writes that of the run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SilentLog:
    """Knows the evaluations of a run, as `RunLog` does, and writes nothing.

    Attributes:
        evaluations: What was measured, by epoch, counted from 0.
    """

    evaluations: dict[int, dict[str, float]]

    def step(self, step: int, epoch: int, terms: dict[str, float]) -> None:
        """Leave a step to the process that writes."""

    def evaluation(self, step: int, epoch: int, metrics: dict[str, float]) -> None:
        """Remember one evaluation."""
        del step
        self.evaluations[epoch] = metrics

    def close(self) -> None:
        """There is nothing to close."""
