"""Write rendered scenes as a KITTI folder, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm import tqdm

from edgedetr.distill.synth.render import Seen, render
from edgedetr.distill.synth.scene import sample_scene
from edgedetr.runtime.errors import DataError, UsageError
from edgedetr.runtime.files import read_text, unfinished_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.process import BaseProcess

    from edgedetr.distill.synth.camera import Camera

RENDERER = 2
"""Raised when the same seed would give other bytes."""
ARGUMENTS = "synth.json"
VAL_SHARE = 0.2
_MOST_RECORD_BYTES = 1 << 12
_PNG = (
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY,
    cv2.IMWRITE_PNG_FILTER,
    cv2.IMWRITE_PNG_FILTER_SUB,
)
"""One filter for all rows, not the best of each: half the time for files a thirtieth larger."""


@dataclass(frozen=True)
class SynthArguments:
    """All that decides the bytes of a rendered data set."""

    frames: int
    seed: int
    renderer: int = RENDERER


def write_synth(out: str | os.PathLike[str], frames: int, seed: int, workers: int = 2) -> bool:
    """Render a data set into a new KITTI folder; the last 20 % of the frames are ``val``.

    The bytes depend on ``frames`` and ``seed`` only, not on ``workers``.

    Args:
        out: The folder to make.
        frames: How many frames, at least 2.
        seed: Seed of the whole set; each frame draws from ``[seed, frame]``.
        workers: Processes that render.

    Returns:
        Whether it was rendered; False when ``out`` already holds exactly this data set.

    Raises:
        UsageError: If there are fewer than 2 frames, no worker or a negative seed.
        DataError: If ``out`` holds anything else.
    """
    out = Path(out)
    if frames < 2 or seed < 0 or workers < 1:
        raise UsageError(
            f"found {frames} frames, seed {seed}, {workers} workers; wanted at least 2 frames "
            "(one to train, one to validate), a seed of at least 0 and at least 1 worker"
        )
    arguments = SynthArguments(frames, seed)
    if _is_there(out, arguments):
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(out) as unfinished:
        folder = unfinished / "made"
        for part in ("image_2", "label_2", "calib"):
            (folder / "training" / part).mkdir(parents=True)
        _write_frames(folder, arguments, workers)
        _write_lists(folder, frames)
        (folder / ARGUMENTS).write_text(_as_json(arguments), encoding="utf-8")
        if out.exists():
            out.rmdir()
        shutil.move(folder, out)
    return True


def write_frame(folder: Path, seed: int, frame: int) -> None:
    """Render one frame and write its image, labels and calibration below ``folder``/training."""
    rng = np.random.default_rng([seed, frame])
    scene = sample_scene(rng)
    rendered = render(scene, rng)
    name = f"{frame:06d}"
    training = folder / "training"
    bgr = cv2.cvtColor(rendered.image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".png", bgr, _PNG)
    (training / "image_2" / f"{name}.png").write_bytes(data.tobytes())
    lines = [label_line(seen, scene.camera) for seen in reversed(rendered.seen) if seen.visible]
    lines.sort(key=lambda line: line.startswith("DontCare"))
    _write(training / "label_2" / f"{name}.txt", lines)
    _write(training / "calib" / f"{name}.txt", calib_lines(scene.camera))


def label_line(seen: Seen, camera: Camera) -> str:
    """Write an object as a line of a KITTI label file.

    An object's box is that of all its pixels in the image, hidden or not; a DontCare area, which
    must not cover what hides it, is the box of the pixels that are seen.
    """
    if not seen.is_labelled:
        area = " ".join(f"{v:.2f}" for v in seen.visible_box)
        return f"DontCare -1 -1 -10 {area} -1 -1 -1 -1000 -1000 -1000 -10"
    box = " ".join(f"{v:.2f}" for v in seen.silhouette.box())
    actor, pose = seen.actor, seen.actor.pose
    size = " ".join(f"{v:.2f}" for v in actor.size_m)
    return (
        f"{actor.kind} {seen.silhouette.truncation():.2f} {seen.occlusion} {pose.alpha:.2f} {box} "
        f"{size} {pose.x:.2f} {camera.height_m:.2f} {pose.z:.2f} {pose.rotation_y:.2f}"
    )


def calib_lines(camera: Camera) -> list[str]:
    """Write a camera as KITTI's calibration lines: one camera, no lidar."""
    projection = " ".join(f"{v:.6e}" for v in camera.projection().ravel())
    eye = " ".join(f"{v:.6e}" for v in np.eye(3).ravel())
    rigid = " ".join(f"{v:.6e}" for v in np.eye(3, 4).ravel())
    return [
        *(f"P{k}: {projection}" for k in range(4)),
        f"R0_rect: {eye}",
        f"Tr_velo_to_cam: {rigid}",
        f"Tr_imu_to_velo: {rigid}",
    ]


def _is_there(out: Path, arguments: SynthArguments) -> bool:
    """Tell whether the folder holds this data set; refuse a folder that holds another."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise DataError(f"{out}: is a file; wanted a new folder")
    if not any(out.iterdir()):
        return False
    record = out / ARGUMENTS
    try:
        found = read_text(record, _MOST_RECORD_BYTES) if record.exists() else ""
    except ValueError as error:
        raise DataError(f"{record}: no record of a data set: {error}") from error
    if found == _as_json(arguments):
        return True
    what = f"a data set made with {' '.join(found.split())}" if found else "other files"
    raise DataError(
        f"{out}: holds {what}; wanted an empty or new folder: choose another or delete it"
    )


def _write_frames(folder: Path, arguments: SynthArguments, workers: int) -> None:
    write = partial(write_frame, folder, arguments.seed)
    with tqdm(total=arguments.frames, desc="render", unit="frame", disable=None) as bar:
        for _ in _mapped(write, arguments.frames, workers):
            bar.update()


def _mapped(write: partial[None], frames: int, workers: int) -> Iterator[None]:
    if workers == 1:
        yield from map(write, range(frames))
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin_worker) as pool:
        try:
            yield from pool.map(write, range(frames), chunksize=8)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _begin_worker() -> None:
    """Compute with one thread, and end with the process that started this one."""
    cv2.setNumThreads(1)
    parent = parent_process()
    if parent:
        Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _write_lists(folder: Path, frames: int) -> None:
    names = [f"{frame:06d}" for frame in range(frames)]
    first_val = frames - max(1, round(VAL_SHARE * frames))
    lists = {"train": names[:first_val], "val": names[first_val:], "trainval": names}
    (folder / "ImageSets").mkdir()
    for split, chosen in lists.items():
        _write(folder / "ImageSets" / f"{split}.txt", chosen)


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _as_json(arguments: SynthArguments) -> str:
    return json.dumps(asdict(arguments), sort_keys=True) + "\n"
