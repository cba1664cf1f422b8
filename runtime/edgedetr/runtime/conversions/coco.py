"""`Detections` as COCO's list of results; its category of the class ``k`` is ``k + 1``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgedetr.runtime.conversions.rows import detections_of
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edgedetr.runtime.conversions.rows import Row
    from edgedetr.runtime.types import Detections


def to_coco(detections: Detections, image_id: int) -> list[dict[str, Any]]:
    """Return the results of an image: image_id, category_id, bbox (x y w h, pixels), score."""
    rows = zip(detections.labels, detections.boxes.tolist(), detections.scores, strict=True)
    return [
        {
            "image_id": image_id,
            "category_id": int(label) + 1,
            "bbox": [round(v, 3) for v in (x0, y0, x1 - x0, y1 - y0)],
            "score": round(float(score), 6),
        }
        for label, (x0, y0, x1, y1), score in rows
    ]


def from_coco(results: Iterable[Mapping[str, Any]], image_id: int) -> Detections:
    """Read the results of one image out of a list, best first.

    Raises:
        DataError: If a result lacks a key or has a value of another kind.
    """
    try:
        return detections_of([_row(row) for row in results if row["image_id"] == image_id])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "not COCO results: wanted image_id, category_id, bbox (x y w h) and score; found "
            f"{error}"
        ) from error


def _row(result: Mapping[str, Any]) -> Row:
    x, y, width, height = map(float, result["bbox"])
    return (x, y, x + width, y + height), float(result["score"]), int(result["category_id"]) - 1
