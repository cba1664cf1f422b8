"""Commands of the calibration stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import click

from edgedetr.calib.methods import COST, METHODS
from edgedetr.runtime.commands.options import (
    PATH,
    Number,
    beside,
    format_option,
    require_apart,
    spec_option,
)
from edgedetr.runtime.commands.output import echo
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.calib.frames import TrainingImages
    from edgedetr.calib.methods import Method
    from edgedetr.runtime.spec import ModelSpec


def _kitti_alone(*arguments: Any) -> list[Path]:  # noqa: ANN401 - those of `TrainingImages`
    from edgedetr.calib.frames import only_kitti

    return only_kitti(*arguments)


@click.group(context_settings={"obj": _kitti_alone})  # the export stage gives that of every format
def calib() -> None:
    """Calibrate models: activation ranges for INT8, baselines for health checks."""


@calib.command()
@click.argument("model", type=PATH)
@click.option("--data", type=PATH, help="A data set; its training split is used.")
@format_option
@click.option("--images", type=PATH, help="A folder of images, instead of --data.")
@click.option("--frames", type=click.IntRange(1), default=128, show_default=True)
@click.option("--method", type=click.Choice(METHODS), default=METHODS[0], show_default=True)
@click.option(
    "--percentile",
    type=Number(0, 100, min_open=True),
    default=99.99,
    show_default=True,
    help="Share of values that the method percentile keeps, in per cent.",
)
@spec_option
@click.option("-o", "--output", type=PATH, help="Default: MODEL with the suffix .calib.json.")
@click.pass_obj
def collect(  # noqa: PLR0913, PLR0917 - one argument per option
    listing: TrainingImages,
    model: Path,
    data: Path | None,
    kind: str | None,
    images: Path | None,
    frames: int,
    method: str,
    percentile: float,
    spec: ModelSpec | None,
    output: Path | None,
) -> None:
    """Run MODEL over camera frames and write the range of every activation to a JSON file."""
    from edgedetr.calib import collect as collection
    from edgedetr.calib.frame_variety import Variety
    from edgedetr.calib.stats import STATS_SUFFIX

    output = output or beside(model, STATS_SUFFIX)
    require_apart([output], [model])
    found, chosen = _frames(listing, data, kind, images, frames)
    variety = Variety()
    stats = collection.collect(model, chosen, spec, cast("Method", method), percentile, variety)
    stats.write(output)
    if method in COST:
        echo(
            f"Warning: method {method} broke the best box in {COST[method]} unseen images of a "
            "compact DETR, mse in 1; use mse unless you measured it on yours",
            err=True,
        )
    if variety.warning():
        echo(f"Warning: {variety.warning()}", err=True)
    counted = f"{len(stats.ranges)} activations over {stats.frames} of {found} frames"
    echo(printable(f"{output}: {counted}, method {method}"))


@calib.command()
@click.argument("model", type=PATH)
@click.option("--data", type=PATH, help="A data set; its training split is used.")
@format_option
@click.option("--images", type=PATH, help="A folder of images, instead of --data.")
@click.option("--frames", type=click.IntRange(1), default=256, show_default=True)
@click.option(
    "--threshold",
    type=Number(0, 1),
    default=0.3,
    show_default=True,
    help="Lowest score of a detection.",
)
@spec_option
@click.option("-o", "--output", type=PATH, help="Default: MODEL with the suffix .health.json.")
@click.pass_obj
def digest(  # noqa: PLR0913, PLR0917 - one argument per option
    listing: TrainingImages,
    model: Path,
    data: Path | None,
    kind: str | None,
    images: Path | None,
    frames: int,
    threshold: float,
    spec: ModelSpec | None,
    output: Path | None,
) -> None:
    """Summarize frames and MODEL's detections, the baseline of edgedetr run --health.

    Use frames from many drives: conditions missing from them will raise alarms.
    """
    from edgedetr.calib.health_digest import digest as digest_frames

    output = output or beside(model, ".health.json")
    require_apart([output], [model])
    found, chosen = _frames(listing, data, kind, images, frames)
    noted = digest_frames(model, chosen, spec, threshold)
    noted.write(output)
    objects = sum(noted.class_counts)
    echo(printable(f"{output}: {noted.frames} of {found} frames, {objects} objects"))


def _frames(
    listing: TrainingImages,
    data: Path | None,
    kind: str | None,
    images: Path | None,
    frames: int,
) -> tuple[int, list[Path]]:
    """Count the images of a folder and choose the frames."""
    if (data is None) == (images is None):
        raise UsageError("give either --data ROOT or --images DIR")
    from edgedetr.calib.frames import choose_frames
    from edgedetr.runtime.images import list_images

    found = listing(data, kind) if data else list_images(cast("Path", images))
    return len(found), choose_frames(found, frames)


COMMANDS: tuple[click.Command, ...] = (calib,)
