"""Detections as files: KITTI's result files, COCO's result list, YOLO's text.

- ``kitti``: ``<image>.txt``, 16 columns a line, see `edgedetr.runtime.kitti.results_text`;
- ``coco``: ``detections.json``, a list of image_id, category_id, bbox (x y w h in pixels) and
  score, and ``images.json`` with the names behind the ids, which count from 1;
- ``yolo``: ``labels/<image>.txt``, a line of class, cx cy w h in shares of the image, and score,
  and ``classes.txt`` with the names of the classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgedetr.runtime.kitti import check_folder, result_path, results_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgedetr.runtime.save_formats import SaveFormat
    from edgedetr.runtime.types import Detections

DETECTIONS, IMAGES, LABELS, CLASSES = "detections.json", "images.json", "labels", "classes.txt"


class ResultWriter(Protocol):
    """Writes the detections of one image after the other into a folder."""

    def add(self, image: Path, hw: tuple[int, int], found: Detections) -> None:
        """Write those of an image of a height and width."""
        ...

    def close(self) -> None:
        """Write what is known only at the end."""
        ...


def result_writer(kind: SaveFormat, folder: Path, class_names: Sequence[str]) -> ResultWriter:
    """Write results of a format into a folder that is there."""
    makers: dict[SaveFormat, Callable[[Path, Sequence[str]], ResultWriter]] = {
        "kitti": _Kitti,
        "coco": _Coco,
        "yolo": _Yolo,
    }
    return makers[kind](folder, class_names)


def check_results_folder(kind: SaveFormat, folder: Path, names: Sequence[str]) -> None:
    """Stop where a folder holds results of other images, which an evaluation would count.

    Raises:
        UsageError: If it is a file, or holds such results.
    """
    check_folder(folder, replaced=[*names, *((Path(CLASSES).stem,) if kind == "yolo" else ())])
    if kind == "yolo":
        check_folder(folder / LABELS, replaced=names)


class _Kitti:
    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self._folder, self._class_names = folder, class_names

    def add(self, image: Path, hw: tuple[int, int], found: Detections) -> None:  # noqa: ARG002
        text = results_text(found, self._class_names)
        result_path(self._folder, image.stem).write_text(text, encoding="utf-8")

    def close(self) -> None:
        pass


class _Coco:
    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self._folder, self._class_names = folder, class_names
        self._images: list[dict[str, object]] = []
        self._rows: list[dict[str, object]] = []

    def add(self, image: Path, hw: tuple[int, int], found: Detections) -> None:
        number = len(self._images) + 1
        size = {"height": hw[0], "width": hw[1]}
        self._images.append({"id": number, "file_name": image.name, **size})
        for label, box, score in zip(found.labels, found.boxes.tolist(), found.scores, strict=True):
            x0, y0, x1, y1 = box
            self._rows.append(
                {
                    "image_id": number,
                    "category_id": int(label) + 1,
                    "bbox": [round(v, 3) for v in (x0, y0, x1 - x0, y1 - y0)],
                    "score": round(float(score), 6),
                }
            )

    def close(self) -> None:
        categories = [{"id": i, "name": name} for i, name in enumerate(self._class_names, 1)]
        files = {
            DETECTIONS: self._rows,
            IMAGES: {"images": self._images, "categories": categories},
        }
        for name, content in files.items():
            (self._folder / name).write_text(f"{json.dumps(content)}\n", encoding="utf-8")


class _Yolo:
    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self._folder, self._class_names = folder, class_names

    def add(self, image: Path, hw: tuple[int, int], found: Detections) -> None:
        height, width = hw
        lines = []
        for label, box, score in zip(found.labels, found.boxes.tolist(), found.scores, strict=True):
            x0, y0, x1, y1 = box
            places = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height)
            sizes = ((x1 - x0) / width, (y1 - y0) / height)
            shares = " ".join(f"{value:.7f}" for value in (*places, *sizes))
            lines.append(f"{label} {shares} {score:.6f}\n")
        path = self._folder / LABELS / f"{image.stem}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(lines), encoding="utf-8")

    def close(self) -> None:
        names = "".join(f"{name}\n" for name in self._class_names)
        (self._folder / CLASSES).write_text(names, encoding="utf-8")
