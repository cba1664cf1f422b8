"""``edgedetr detect``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from edgedetr.runtime.command_line import PATH

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("model", type=PATH)
@click.option("--images", type=PATH, required=True, help="Folder of PNG or JPEG images.")
@click.option("--out", type=PATH, required=True, help="Folder for the result files.")
@click.option(
    "--threshold", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="Lowest score."
)
@click.option("--overlays/--no-overlays", default=True, help="Draw what was found.")
@click.option("--spec", "spec_path", type=PATH, help="TOML spec of a model that carries none.")
def detect(
    model: Path, images: Path, out: Path, threshold: float, overlays: bool, spec_path: Path | None
) -> None:
    """Run MODEL over images: KITTI result files, and overlays in OUT/overlays."""
    from edgedetr.runtime.detect import detect as run
    from edgedetr.runtime.detector import Detector
    from edgedetr.runtime.images import list_images
    from edgedetr.runtime.spec import spec_from_toml

    paths = list_images(images)
    spec = spec_from_toml(spec_path) if spec_path else None
    with (
        Detector.open(model, threshold=threshold, spec=spec) as detector,
        click.progressbar(length=len(paths), label="detect", file=sys.stderr) as bar,
    ):
        latency = run(detector, paths, out, overlays=overlays, on_frame=lambda: bar.update(1))
    click.echo(f"{out}: {latency.samples} frames, p50 {latency.p50_ms:.1f} ms")
