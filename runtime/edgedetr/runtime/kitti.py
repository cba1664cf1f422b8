"""KITTI's result files: a folder with one per frame, one line of 16 columns per detection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.runtime.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from edgedetr.runtime.types import Detections


def result_path(folder: Path, frame_id: str) -> Path:
    """Return where the result file of a frame lies."""
    return folder / f"{frame_id}.txt"


def check_names(frame_ids: Sequence[str]) -> None:
    """Stop unless every frame has a result file of its own.

    Raises:
        DataError: If two have the same name.
    """
    if len(set(frame_ids)) < len(frame_ids):
        twice = next(name for name in frame_ids if frame_ids.count(name) > 1)
        raise DataError(f"two images are called {twice}; their results would share one file")


def check_folder(folder: Path, replaced: Collection[str] = ()) -> None:
    """Stop unless results may be written to a folder; it need not exist.

    Args:
        folder: Where the result files go.
        replaced: Frames whose earlier results may lie there.

    Raises:
        UsageError: If it is a file, or holds results of other frames, which an evaluation of the
            folder would count.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; choose a folder for the results")
    others = sorted({path.stem for path in folder.glob("*.txt")} - set(replaced))
    if others:
        raise UsageError(f"{folder} holds other results ({others[0]}.txt); choose another folder")


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
