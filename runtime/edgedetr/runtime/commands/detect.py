"""``edgedetr detect``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from edgedetr.runtime.commands.conversion import runnable
from edgedetr.runtime.commands.options import (
    PATH,
    model_options,
    require_apart,
    threshold_option,
)
from edgedetr.runtime.commands.output import echo, progress
from edgedetr.runtime.files import write_text
from edgedetr.runtime.printable import counted, printable
from edgedetr.runtime.save_formats import SAVE_FORMATS

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.runtime.commands.conversion import Converters
    from edgedetr.runtime.save_formats import SaveFormat


@click.command()
@click.argument("model", type=PATH)
@click.option("--images", type=PATH, required=True, help="PNG or JPEG image, or a folder of them.")
@click.option("--out", type=PATH, required=True, help="Folder for the result files.")
@threshold_option
@click.option(
    "--save",
    type=click.Choice(SAVE_FORMATS),
    default=SAVE_FORMATS[0],
    show_default=True,
    help="Format of the results.",
)
@click.option("--overlays/--no-overlays", default=True, help="Draw the detections.")
@click.option("--json", "figures", type=PATH, help="Write the figures to this file.")
@model_options
@click.pass_obj
def detect(  # noqa: PLR0913, PLR0917 - one argument per option
    converters: Converters,
    model: Path,
    images: Path,
    out: Path,
    threshold: float,
    save: SaveFormat,
    overlays: bool,
    figures: Path | None,
    opening: dict[str, Any],
) -> None:
    """Run MODEL on images: results in OUT, KITTI's files by default, and overlays in OUT/overlays.

    A .safetensors checkpoint is exported first, and a name of the Hugging Face hub imported before,
    into the user's cache. The whole package brings a detector of its own: road.
    """
    from edgedetr.runtime.detect import detect as run
    from edgedetr.runtime.detector import Detector
    from edgedetr.runtime.images.reading import list_images

    require_apart([figures], [model, images])
    paths = list_images(images)
    with (
        Detector.open(runnable(model, converters), threshold=threshold, **opening) as detector,
        progress(len(paths), "detect") as step,
    ):
        latency = run(detector, paths, out, overlays=overlays, save=save, on_frame=step)
        ran_on = detector.backend
    if figures:
        times = {p: getattr(latency, f"{p}_ms") for p in ("p50", "p90", "p99")}
        values = {"frames": latency.samples, "latency_ms": times, "ran_on": ran_on}
        write_text(figures, json.dumps(values, indent=2) + "\n")
    frames = counted(latency.samples, "frame")
    echo(f"{printable(str(out))}: {frames}, p50 {latency.p50_ms:.1f} ms, {ran_on}")
