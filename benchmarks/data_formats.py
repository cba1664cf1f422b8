"""Time opening a data set of 80,000 labels in every format, and checking it.

10,000 frames share one small JPEG image by links, so that the figures are those of labels and of
headers and not of disks. Each format is opened in a process of its own. Beside the seconds of the
clock stand those of the processor, which other work on the machine does not stretch.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter_ns, process_time_ns

import click
import cv2
import numpy as np

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.distill.data import data_module, open_dataset
from edgedetr.distill.dataset_format import FORMATS
from edgedetr.distill.dataset_survey import survey
from edgedetr.distill.labels.frames import CheckedFrame, LabelledObject
from edgedetr.runtime.plugins import names

MEASURES = (
    "benchmarks/data_formats.py",
    "distill/edgedetr/distill/data",
    "distill/edgedetr/distill/dataset_format.py",
    "distill/edgedetr/distill/dataset_survey.py",
    "distill/edgedetr/distill/labels",
    "runtime/edgedetr/runtime/images/headers.py",
)
FRAMES, OBJECTS = 10_000, 8
HW = (720, 1280)
CLASSES = {
    "waymo": ("Vehicle", "Pedestrian", "Cyclist"),
    "citypersons": ("pedestrian", "rider", "sitting person"),
}


def made(folder: Path, class_names: tuple[str, ...]) -> list[CheckedFrame]:
    """Make frames of random boxes; one of 20 frames is empty, and the others have more."""
    image = folder / "image.jpg"
    image.write_bytes(cv2.imencode(".jpg", np.full((*HW, 3), 90, np.uint8))[1].tobytes())
    generator = np.random.default_rng(0)
    counts = np.full(FRAMES, OBJECTS)
    counts[::20] = 0
    counts[1::20] = 2 * OBJECTS
    frames = []
    for number, count in enumerate(counts):
        low = generator.uniform((0, 0), (HW[1] - 200, HW[0] - 200), (count, 2))
        corners = np.concatenate([low, low + generator.uniform(10, 200, (count, 2))], axis=1)
        objects = [
            LabelledObject(class_names[int(label)], tuple(box))
            for label, box in zip(
                generator.integers(0, len(class_names), count), corners.tolist(), strict=True
            )
        ]
        frames.append(CheckedFrame(image, f"{number:06d}", HW, objects))
    return frames


def classes_of(kind: str) -> tuple[str, ...]:
    """Return three classes that a format can hold."""
    return CLASSES.get(kind, ("car", "person", "bicycle"))


def timed(kind: str, root: Path) -> dict[str, float]:
    """Open and check a data set."""
    start, cpu_start = perf_counter_ns(), process_time_ns()
    dataset = open_dataset(kind, root, "train", classes_of(kind))
    opened, cpu_opened = perf_counter_ns(), process_time_ns()
    found = survey(root, kind)
    end, cpu_end = perf_counter_ns(), process_time_ns()
    labels = sum(len(truth.labels) for truth in dataset.truths)
    if found.problems or labels != found.classes.total():
        raise SystemExit(f"{kind}: {found.summary()}")
    return {
        "labels": labels,
        "open_s": round((opened - start) / 1e9, 2),
        "open_cpu_s": round((cpu_opened - cpu_start) / 1e9, 2),
        "check_s": round((end - opened) / 1e9, 2),
        "check_cpu_s": round((cpu_end - cpu_opened) / 1e9, 2),
    }


@click.command()
@click.option("--one", nargs=2, hidden=True, help="A format and its folder: what a process times.")
@result_option(__file__)
def main(one: tuple[str, str] | None, out: Path) -> None:
    """Measure every format."""
    if one:
        print(json.dumps(timed(one[0], Path(one[1]))))
        return
    found = {}
    for kind in names(FORMATS):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "set"
            class_names = classes_of(kind)
            module = data_module(kind, root)
            own = module.KEEPS.classes or class_names
            module.write(root, {"train": made(Path(folder), class_names)}, own)
            command = [sys.executable, __file__, "--one", kind, str(root)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
            found[kind] = json.loads(answer.stdout.splitlines()[-1])
            print(kind, found[kind], flush=True)
    write_result(out, {"frames": FRAMES, "formats": found}, MEASURES)


if __name__ == "__main__":
    main()
