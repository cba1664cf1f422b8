"""Compare two FP32 models with the same query selection where scores tie.

A detector that selects its queries takes the Q best of some thousand tokens. Before training, and
after little of it, their scores are equal to the last bits, so that any rounding changes the
selection and everything behind it. That is no fault of an export. So on a frame where two models
differ, the second runs again with the selection of the first. The frame is *tied* where the scores
ahead of each selection are then the same, so that both selections are right, and everything behind
it agrees as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]

SAME = 1e-3
"""How far two scores ahead of a selection may be apart, absolutely or relative to their size."""


@dataclass(frozen=True, eq=False)
class Selection:
    """The k best of some scores.

    Attributes:
        scores: What was selected from, any shape.
        indices: What was selected, int64, of the shape of the result.
    """

    scores: NDArray[np.float32]
    indices: NDArray[np.int64]


@runtime_checkable
class SelectingRunner(Protocol):
    """A runner whose query selections can be read and replaced."""

    def select(
        self, images: NDArray[np.float32], forced: Sequence[Selection] = ()
    ) -> tuple[Outputs, list[Selection]]:
        """Return the outputs and the selections behind them, in order.

        Args:
            images: Network input (1, 3, H, W).
            forced: The selections to use instead of its own; its own when empty.

        Raises:
            SelectionError: If the model does not take one image, or selects in another number of
                places or another number of queries.
            ArtifactError: If its selections cannot be read.
        """
        ...


class SelectionError(Exception):
    """Two models do not select queries in the same places."""


def with_same_selection(
    a: SelectingRunner, b: SelectingRunner, images: NDArray[np.float32]
) -> tuple[Outputs, Outputs] | None:
    """Run a second model with the query selections of the first.

    Returns:
        The outputs of both; None where a tie cannot be told from a fault: the selections cannot be
        read, are in other places, or the scores ahead of one differ.
    """
    try:
        outputs, own = a.select(images)
        other, theirs = b.select(images, own)
    except (SelectionError, ArtifactError):
        return None
    same = (_alike(x.scores, y.scores) for x, y in zip(own, theirs, strict=True))
    return (outputs, other) if own and all(same) else None


def _alike(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    return a.shape == b.shape and np.allclose(a, b, SAME, SAME)
