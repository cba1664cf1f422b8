"""Round weights to FP16 so that the errors of one output cancel.

Rounded one by one, the errors of the weights of an output channel have a sum, and behind a ReLU,
where activations are positive and neighbours alike, that sum times their mean is an offset that
every position gets. A few weights that lie near the middle of two FP16 numbers go to the other one
instead, which takes the sum away and hardly changes their own error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_CHANGED = 8
_WORTH = 0.9
"""A change is made where it leaves at most this share of the sum."""


def half_of(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """Round each value to the nearest FP16 number; infinite values stay so."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float16)


def half_weights(values: NDArray[np.float32], axis: int) -> NDArray[np.float16]:
    """Round weights to one of the two nearest FP16 numbers, with little error in each sum.

    Args:
        values: The weights, which FP16 can hold.
        axis: The axis that counts the output channels.
    """
    rows = np.moveaxis(values, axis, 0)
    shape, flat = rows.shape, rows.reshape(len(rows), -1).astype(np.float64)
    rounded = half_of(rows).reshape(flat.shape)
    errors = rounded - flat
    toward = np.where(errors > 0, -np.inf, np.inf).astype(np.float16)
    other = np.nextafter(rounded, toward)
    change = np.where(np.isfinite(other), other - rounded.astype(np.float64), np.inf)
    sums, row = errors.sum(axis=1), np.arange(len(flat))
    for _ in range(_MOST_CHANGED):
        left = np.abs(sums[:, None] + change)
        column = left.argmin(axis=1)
        better = row[left[row, column] < _WORTH * np.abs(sums)]
        column = column[better]
        rounded[better, column] = other[better, column]
        sums[better] += change[better, column]
        change[better, column] = np.inf
    return np.moveaxis(rounded.reshape(shape), 0, axis)
