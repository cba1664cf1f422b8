"""Detections as files: KITTI's result files, COCO's result list, YOLO's text.

- ``kitti``: ``<image>.txt``, 16 columns a line, see `edgedetr.runtime.conversions.kitti.to_kitti`;
- ``coco``: ``detections.json``, a list of image_id, category_id, bbox (x y w h in pixels) and
  score, and ``images.json`` with the names behind the ids, which count from 1;
- ``yolo``: ``labels/<image>.txt``, a line of class, cx cy w h in shares of the image, and score,
  and ``classes.txt`` with the names of the classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgedetr.runtime.conversions.coco import to_coco
from edgedetr.runtime.conversions.kitti import to_kitti
from edgedetr.runtime.conversions.yolo import to_yolo
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.files import MOST_TEXT_BYTES
from edgedetr.runtime.kitti import check_folder, result_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgedetr.runtime.save_formats import SaveFormat
    from edgedetr.runtime.types import Detections

DETECTIONS, IMAGES, LABELS, CLASSES = "detections.json", "images.json", "labels", "classes.txt"
LABEL_COLUMNS: dict[SaveFormat, int] = {"kitti": 15, "yolo": 5}
"""Columns of a label; results have the score as one more."""


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
    """Stop where a folder holds labels, or results of other images that an evaluation would count.

    Raises:
        UsageError: If it is a file, or holds such results, or labels that would be replaced.
    """
    check_folder(folder, replaced=[*names, *((Path(CLASSES).stem,) if kind == "yolo" else ())])
    if kind == "yolo":
        check_folder(folder / LABELS, replaced=names)
    if kind in LABEL_COLUMNS:
        place = folder / LABELS if kind == "yolo" else folder
        for name in names:
            _check_no_labels(result_path(place, name), LABEL_COLUMNS[kind])


def _check_no_labels(path: Path, columns: int) -> None:
    """Stop where a file has as many columns as labels, which have no score."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = file.read(MOST_TEXT_BYTES).splitlines()
    if any(len(line.split()) == columns for line in lines):
        raise UsageError(f"{path} holds labels, not results; choose another folder for --out")


class _Kitti:
    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self._folder, self._class_names = folder, class_names

    def add(self, image: Path, hw: tuple[int, int], found: Detections) -> None:  # noqa: ARG002
        text = to_kitti(found, self._class_names)
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
        self._rows += to_coco(found, number)

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
        path = self._folder / LABELS / f"{image.stem}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(to_yolo(found, hw), encoding="utf-8")

    def close(self) -> None:
        names = "".join(f"{name}\n" for name in self._class_names)
        (self._folder / CLASSES).write_text(names, encoding="utf-8")
