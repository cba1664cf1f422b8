"""Run a detector on a folder of images and write the results."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING

import cv2

from edgedetr.runtime.draw import draw_detections
from edgedetr.runtime.files import unfinished_folder
from edgedetr.runtime.images.reading import read_image
from edgedetr.runtime.kitti import check_names
from edgedetr.runtime.saved_results import check_results_folder, result_writer
from edgedetr.runtime.timing import latency_from_samples
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from edgedetr.runtime.detector import Detector
    from edgedetr.runtime.save_formats import SaveFormat
    from edgedetr.runtime.timing import Latency


def detect(
    detector: Detector,
    images: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    overlays: bool = True,
    save: SaveFormat = "kitti",
    on_frame: Callable[[], object] = lambda: None,
) -> Latency:
    """Write results of the images into a folder, and ``out/overlays/<image>.png``.

    By default the results are ``out/<image>.txt``, a KITTI result file per image.

    Nothing is written unless every image could be read.

    Args:
        detector: What finds the objects.
        images: The images.
        out: Folder for the results; made when it is missing. It may hold earlier results of the
            same images, which are replaced.
        overlays: Whether to draw the pictures.
        save: The format of the results, see `edgedetr.runtime.saved_results`.
        on_frame: Called after every image.

    Returns:
        Time from image to detections.

    Raises:
        DataError: If an image cannot be read, or two have the same name.
        UsageError: If ``out`` holds results of other images, which an evaluation would count.
    """
    out = Path(out)
    names = [Path(p).stem for p in images]
    check_names(names)
    check_results_folder(save, out, names)
    samples_ns = []
    with unfinished_folder(out) as unfinished:
        writer = result_writer(save, unfinished, detector.spec.class_names)
        for path in map(Path, images):
            frame = Frame(read_image(path), frame_id=path.stem)
            start_ns = perf_counter_ns()
            found = detector.detect(frame)
            samples_ns.append(perf_counter_ns() - start_ns)
            height, width, _ = frame.image.shape
            writer.add(path, (height, width), found)
            if overlays:
                picture = draw_detections(frame.image, found, detector.spec.class_names)
                _write_picture(unfinished / "overlays" / f"{path.stem}.png", picture)
            on_frame()
        writer.close()
        _move(unfinished, out)
    return latency_from_samples(samples_ns)


def _write_picture(path: Path, picture: cv2.typing.MatLike) -> None:
    path.parent.mkdir(exist_ok=True)
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    path.write_bytes(data.tobytes())


def _move(source: Path, target: Path) -> None:
    """Put every file where it belongs, in place of an older one."""
    for path in sorted(source.rglob("*.*")):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
