"""KITTI's result files: one per frame, one line of 16 columns per detection."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.runtime.types import Detections


def results_text(detections: Detections, class_names: Sequence[str]) -> str:
    """Write detections as KITTI's result file, best first; no detection makes an empty file.

    The columns are type, truncation, occlusion, alpha, the box (x0 y0 x1 y1 in pixels), height,
    width and length, x y z, rotation and score. What a 2-D detector does not know has KITTI's
    value for it: -1 -1 -10, -1 -1 -1, -1000 -1000 -1000, -10. A space in a class name, which would
    make a column, becomes an underscore.
    """
    rows = zip(detections.labels, detections.boxes, detections.scores, strict=True)
    return "".join(
        f"{'_'.join(class_names[label].split())} -1 -1 -10 "
        f"{box[0]:.2f} {box[1]:.2f} {box[2]:.2f} {box[3]:.2f} "
        f"-1 -1 -1 -1000 -1000 -1000 -10 {score:.6f}\n"
        for label, box, score in rows
    )
