"""``edgedetr detect``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from edgedetr.runtime.commands.conversion import runnable
from edgedetr.runtime.commands.model_options import model_options
from edgedetr.runtime.commands.options import PATH, Number
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.runtime.commands.conversion import Converters


@click.command()
@click.argument("model", type=PATH)
@click.option("--images", type=PATH, required=True, help="PNG or JPEG image, or a folder of them.")
@click.option("--out", type=PATH, required=True, help="Folder for the result files.")
@click.option(
    "--threshold", type=Number(0, 1), default=0.3, show_default=True, help="Lowest score."
)
@click.option("--overlays/--no-overlays", default=True, help="Draw what was found.")
@model_options
@click.pass_obj
def detect(  # noqa: PLR0913, PLR0917 - one argument per option
    converters: Converters,
    model: Path,
    images: Path,
    out: Path,
    threshold: float,
    overlays: bool,
    opening: dict[str, Any],
) -> None:
    """Run MODEL over images: KITTI result files, and overlays in OUT/overlays.

    A .safetensors checkpoint is exported first, into the user's cache.
    """
    from edgedetr.runtime.detect import detect as run
    from edgedetr.runtime.detector import Detector
    from edgedetr.runtime.images import list_images

    paths = list_images(images)
    with (
        Detector.open(runnable(model, converters), threshold=threshold, **opening) as detector,
        click.progressbar(length=len(paths), label="detect", file=sys.stderr) as bar,
    ):
        latency = run(detector, paths, out, overlays=overlays, on_frame=lambda: bar.update(1))
        ran_on = detector.backend
    frames = "1 frame" if latency.samples == 1 else f"{latency.samples} frames"
    click.echo(f"{printable(str(out))}: {frames}, p50 {latency.p50_ms:.1f} ms, {ran_on}")
