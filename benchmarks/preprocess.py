"""Time the preprocessing, and compare it with shrinking by INTER_AREA in bits and in accuracy.

    python benchmarks/preprocess.py --data data/synth

Writes ``benchmarks/results/preprocess.json``. Frames are timed in turns: the preprocessing whole,
its resizes alone (the floor), and one INTER_AREA in their place. The teacher in the repository was
trained on what INTER_AREA made; it finds the objects of a split in both.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING

import click
import cv2
import numpy as np

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.distill.data.kitti import open_dataset
from edgedetr.distill.evaluation.coco import coco_ap
from edgedetr.export.to_onnx import export_onnx
from edgedetr.runtime.detector import Detector
from edgedetr.runtime.machine import package_versions
from edgedetr.runtime.preprocess import Preprocessor, placement
from edgedetr.runtime.spec import ModelSpec
from edgedetr.runtime.types import Detections, Frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgedetr.distill.data import Dataset

ROOT = Path(__file__).parents[1]
TEACHER = ROOT / "distill" / "checkpoints" / "synth_teacher.safetensors"
SIZES = (
    ((375, 1242), (96, 320)),
    ((375, 1242), (384, 1248)),
    ((1080, 1920), (384, 640)),
    ((1080, 1920), (384, 1248)),
)
"""Source and input, height and width: KITTI's frames and a common camera's."""

MEASURES = ("runtime/edgedetr/runtime/preprocess.py",)
"""What makes these figures: once it changes, they are stale."""


@dataclass(frozen=True)
class Timing:
    """Median milliseconds of a frame.

    Attributes:
        source_hw: Height and width of the frame.
        input_hw: Height and width of the network's input; the frame is stretched to it.
        preprocess_ms: The preprocessing.
        resize_ms: Its resizes alone.
        area_ms: One INTER_AREA in their place.
        levels: Mean distance of the resized image from INTER_AREA's, in grey levels, on a frame of
            the split that was first brought to the source's size.
    """

    source_hw: tuple[int, int]
    input_hw: tuple[int, int]
    preprocess_ms: float
    resize_ms: float
    area_ms: float
    levels: float


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="A KITTI folder.")
@click.option("--runs", type=click.IntRange(10), default=300, show_default=True)
@result_option(__file__)
def main(data: Path, runs: int, out: Path) -> None:
    """Measure and write the figures."""
    cv2.setNumThreads(1)
    dataset = open_dataset(data, "val", ("Car", "Pedestrian", "Cyclist"))
    sample = dataset[0].frame.image
    sizes = [asdict(timing(sample, *size, runs)) for size in SIZES]
    teacher = accuracy(dataset)
    record = {
        "versions": package_versions(),
        "threads": 1,
        "sizes": sizes,
        "teacher": teacher,
    }
    write_result(out, record, MEASURES)
    click.echo(json.dumps({"sizes": sizes, "teacher": teacher}, indent=2))


def timing(
    sample: NDArray[np.uint8], source_hw: tuple[int, int], input_hw: tuple[int, int], runs: int
) -> Timing:
    """Time one frame of one size."""
    frame = np.asarray(cv2.resize(sample, source_hw[::-1]), np.uint8)
    spec = ModelSpec(input_hw, ("Car",), "stretch")
    out = np.empty((3, *input_hw), np.float32)
    preprocess = Preprocessor(spec)
    steps = [
        (step, np.empty((*step.made_hw, 3), np.uint8))
        for step in placement(source_hw, spec).resize_steps()
    ]
    averaged = np.empty((*input_hw, 3), np.uint8)

    def resize() -> None:
        image = frame
        for step, made in steps:
            part = image[: step.read_hw[0], : step.read_hw[1]]
            cv2.resize(part, step.made_hw[::-1], made, interpolation=cv2.INTER_LINEAR_EXACT)
            image = made

    def area() -> None:
        cv2.resize(frame, input_hw[::-1], averaged, interpolation=cv2.INTER_AREA)

    whole, floor, other = medians_ms([lambda: preprocess(frame, out), resize, area], runs)
    distance = np.abs(steps[-1][1].astype(int) - averaged).mean()
    return Timing(source_hw, input_hw, whole, floor, other, float(distance))


def medians_ms(functions: list[Callable[[], object]], runs: int) -> list[float]:
    """Call functions in turns; return the median time of each."""
    spent: list[list[int]] = [[] for _ in functions]
    for _ in range(runs):
        for function, times in zip(functions, spent, strict=True):
            start = perf_counter_ns()
            function()
            times.append(perf_counter_ns() - start)
    return [float(np.median(times)) / 1e6 for times in spent]


def accuracy(dataset: Dataset) -> dict[str, float]:
    """Measure the teacher as the preprocessing resizes, and on frames that INTER_AREA shrank."""
    found: dict[str, list[Detections]] = {"": [], "area_": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "teacher.onnx"
        export_onnx(TEACHER, path)
        with Detector.open(path, threshold=0.0) as detector:
            height, width = detector.spec.input_hw
            for index in range(len(dataset)):
                image = dataset[index].frame.image
                found[""].append(detector.detect(Frame(image)))
                shrunk = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
                there = detector.detect(Frame(np.asarray(shrunk, np.uint8)))
                source_px = np.array([image.shape[1] / width, image.shape[0] / height] * 2)
                boxes = (there.boxes * source_px).astype(np.float32)
                found["area_"].append(Detections(boxes, there.scores, there.labels))
    result: dict[str, float] = {"frames": len(dataset)}
    for name, detections in found.items():
        scores = coco_ap(dataset.truths, detections, dataset.class_names)
        result |= {f"{name}ap": scores.ap, f"{name}ap50": scores.ap50}
    return result


if __name__ == "__main__":
    main()
