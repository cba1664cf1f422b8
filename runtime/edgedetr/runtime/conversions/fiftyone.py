"""`Detections` as those of FiftyOne, for its data sets and its app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgedetr.runtime.conversions.rows import detections_of, label_of
from edgedetr.runtime.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.runtime.conversions.rows import Row
    from edgedetr.runtime.types import Detections


def to_fiftyone(detections: Detections, hw: tuple[int, int], class_names: Sequence[str]) -> Any:  # noqa: ANN401 - FiftyOne is optional
    """Return ``fiftyone.Detections`` of an image of a height and width in pixels.

    Boxes are x, y, width and height there, in shares of the image.

    Raises:
        UsageError: If FiftyOne is not installed.
    """
    try:
        import fiftyone
    except ImportError as error:
        raise UsageError("FiftyOne is not installed; run: pip install fiftyone") from error
    height, width = hw
    rows = zip(detections.labels, detections.boxes.tolist(), detections.scores, strict=True)
    return fiftyone.Detections(
        detections=[
            fiftyone.Detection(
                label=class_names[label],
                bounding_box=[x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height],
                confidence=float(score),
            )
            for label, (x0, y0, x1, y1), score in rows
        ]
    )


def from_fiftyone(theirs: Any, hw: tuple[int, int], class_names: Sequence[str]) -> Detections:  # noqa: ANN401 - optional
    """Read ``fiftyone.Detections`` of an image of a height and width in pixels, best first.

    Raises:
        DataError: If one has no confidence, as truth has none, or a class that is not there.
    """
    return detections_of([_row(one, hw, class_names) for one in theirs.detections])


def _row(one: Any, hw: tuple[int, int], class_names: Sequence[str]) -> Row:  # noqa: ANN401 - optional
    if one.confidence is None:
        raise DataError(f"a detection of FiftyOne ({one.label}) has no confidence")
    height, width = hw
    x, y, w, h = one.bounding_box
    box = (x * width, y * height, (x + w) * width, (y + h) * height)
    return box, float(one.confidence), label_of(one.label, class_names)
