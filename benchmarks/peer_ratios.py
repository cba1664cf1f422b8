"""Time EdgeDETR and its peers at the same tasks in one run; each peer is optional.

    python benchmarks/peer_ratios.py --images ../shared/data/kitti/training/image_2

Writes ``benchmarks/results/peer_ratios.json``, from which `measured_sections.py` writes
``docs/benchmarks.md``. All ways of a task take turns, so that a busy machine slows all of them
alike. What is not installed is named with its reason; ``pip install ultralytics rfdetr
faster-coco-eval`` into an environment of their own brings them.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
import cv2
import numpy as np
import torch

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.machine import package_versions
from peers import detectors, evaluators, preprocessing, training

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.rows import Row

MEASURES = (
    *(f"benchmarks/peers/{n}.py" for n in ("detectors", "evaluators", "preprocessing")),
    *(f"benchmarks/peers/{n}.py" for n in ("rows", "training")),
    "distill/edgedetr/distill/evaluation/coco.py",
    "distill/edgedetr/distill/training/objective.py",
    "runtime/edgedetr/runtime/antialias.py",
    "runtime/edgedetr/runtime/detector.py",
    "runtime/edgedetr/runtime/preprocess.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--images", type=click.Path(path_type=Path), required=True, help="Real frames.")
@click.option("--rounds", type=click.IntRange(3), default=30, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@result_option(__file__)
def main(images: Path, rounds: int, threads: int, out: Path) -> None:
    """Measure and write the figures."""
    cv2.setNumThreads(threads)
    torch.set_num_threads(threads)
    frames = [np.asarray(read_image(path), np.uint8) for path in list_images(images)[:10]]
    parts: dict[str, Callable[[], list[Row]]] = {
        "preprocessing": lambda: preprocessing.rows(frames[0], 10 * rounds),
        "training": lambda: training.rows(rounds),
        "evaluators": lambda: evaluators.rows(500, max(3, rounds // 5)),
        "detectors": lambda: detectors.rows(frames, rounds),
    }
    found: list[Row] = []
    for name, part in parts.items():
        click.echo(name, err=True)
        found += part()
    record = {
        "rows": [asdict(row) for row in found],
        "rounds": rounds,
        "threads": threads,
        "versions": package_versions(),
    }
    write_result(out, record, MEASURES)
    for row in found:
        time = "not run" if row.ms is None else f"{row.ms:8.2f} ms, {row.ratio:.2f} times ours"
        click.echo(f"{row.task}: {row.way}: {time}; {row.note}")


if __name__ == "__main__":
    main()
