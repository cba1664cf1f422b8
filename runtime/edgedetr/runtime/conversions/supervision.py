"""`Detections` as those of supervision, for its annotators, trackers and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgedetr.runtime.conversions.rows import detections_of
from edgedetr.runtime.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.runtime.types import Detections


def to_supervision(detections: Detections, class_names: Sequence[str]) -> Any:  # noqa: ANN401 - optional
    """Return ``supervision.Detections`` with the names of the classes as ``class_name``.

    Raises:
        UsageError: If supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise UsageError("supervision is not installed; run: pip install supervision") from error
    return supervision.Detections(
        xyxy=detections.boxes.copy(),
        confidence=detections.scores.copy(),
        class_id=detections.labels.copy(),
        data={"class_name": np.array([class_names[k] for k in detections.labels], np.str_)},
    )


def from_supervision(theirs: Any) -> Detections:  # noqa: ANN401 - supervision is optional
    """Return the boxes of ``supervision.Detections``, best first; masks and tracks stay behind.

    Raises:
        DataError: If they have no confidence or no class.
    """
    if theirs.confidence is None or theirs.class_id is None:
        raise DataError("supervision's detections lack confidence or class_id; wanted both")
    rows = zip(
        theirs.xyxy.tolist(), theirs.confidence.tolist(), theirs.class_id.tolist(), strict=True
    )
    return detections_of((tuple(box), score, label) for box, score, label in rows)
