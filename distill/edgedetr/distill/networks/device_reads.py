"""What a step reads from its device, as one transfer: each read lets the host wait for the device.

What can wait (whether outputs are finite, the losses of the step before) travels with what cannot:
the costs by which the host matches predictions to objects. Outside of `reads_together` everything
is read at once.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    Then = Callable[[NDArray[np.float32]], None]
    """Is given values once they are read; what it raises, the read raises."""


class DeviceReads:
    """Values that wait for the next read of the device, and are given out in their order."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor, Then]] = []

    def later(self, values: Tensor, then: Then) -> None:
        """Let float32 values, (n,), wait for the next read."""
        self._waiting.append((values.detach(), then))

    def now(self, values: Tensor) -> NDArray[np.float32]:
        """Read float32 values of any shape, with all that waits, which is given out first."""
        waiting, self._waiting = self._waiting, []
        parts = [*(some for some, _ in waiting), values.detach().flatten()]
        read = torch.cat(parts).cpu().numpy()
        start = 0
        for some, then in waiting:
            then(read[start : start + len(some)])
            start += len(some)
        return read[start:].reshape(values.shape)

    def rest(self) -> None:
        """Read what waits, if anything does."""
        if self._waiting:
            self.now(self._waiting[0][0].new_zeros(0))


_current: list[DeviceReads] = []


@contextmanager
def reads_together(reads: DeviceReads) -> Iterator[None]:
    """Let what is computed inside the block read its device together."""
    _current.append(reads)
    try:
        yield
    finally:
        _current.pop()


def read(values: Tensor) -> NDArray[np.float32]:
    """Read float32 values of any shape, with what waits."""
    return (_current[-1] if _current else DeviceReads()).now(values)


def read_later(values: Tensor, then: Then) -> None:
    """Give float32 values, (n,), to a function with the next read; at once outside of a step."""
    if _current:
        _current[-1].later(values, then)
    else:
        then(values.detach().cpu().numpy())
