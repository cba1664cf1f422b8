"""The curves of a run in bounded memory: means over more and more steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_POINTS = 400
"""Points of a curve at most; then each two become one."""


class Curve:
    """Means of a figure over equally many steps each."""

    def __init__(self) -> None:
        self._width = 1
        self._steps: list[float] = []
        self._means: list[float] = []
        self._counts: list[int] = []

    def add(self, step: int, value: float) -> None:
        """Take the figure of a step; steps rise."""
        if self._counts and self._counts[-1] < self._width:
            n = self._counts[-1]
            self._means[-1] += (value - self._means[-1]) / (n + 1)
            self._steps[-1] += (step - self._steps[-1]) / (n + 1)
            self._counts[-1] = n + 1
            return
        if len(self._counts) == MOST_POINTS:
            self._halve()
        self._steps.append(float(step))
        self._means.append(value)
        self._counts.append(1)

    @property
    def last(self) -> float:
        """The last mean; NaN without one."""
        return self._means[-1] if self._means else float("nan")

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean step and the mean figure of each point, (N,) each."""
        return np.array(self._steps, np.float64), np.array(self._means, np.float64)

    def _halve(self) -> None:
        self._width *= 2
        for values in (self._steps, self._means):
            values[:] = [(a + b) / 2 for a, b in zip(values[::2], values[1::2], strict=True)]
        self._counts[:] = [self._width] * len(self._steps)
