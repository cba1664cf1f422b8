"""``edgedetr run``."""

from __future__ import annotations

from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from edgedetr.runtime.commands.conversion import runnable
from edgedetr.runtime.commands.options import (
    PATH,
    Number,
    health_options,
    model_options,
    require_apart,
    threshold_option,
)
from edgedetr.runtime.commands.output import echo
from edgedetr.runtime.commands.signals import handled
from edgedetr.runtime.pacing import old_objects_kept
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgedetr.runtime.commands.conversion import Converters
    from edgedetr.runtime.detector import Detector
    from edgedetr.runtime.health.watch import HealthOptions
    from edgedetr.runtime.stream.stream import StreamSummary


@click.command()
@click.argument("model", type=PATH)
@click.option(
    "--source",
    "sources",
    required=True,
    multiple=True,
    help="Folder of images, video, camera number, URL, or pipeline; once for each camera.",
)
@click.option(
    "--rate",
    "rate_hz",
    type=Number(0.001, 1000),
    help="Frames per second of a folder or video; by default 30, or a video's own time stamps.",
)
@click.option(
    "--deadline-ms",
    type=Number(0, 3_600_000, min_open=True),
    help="Deadline from capture to detections; by default one period of --rate or of 30 Hz.",
)
@click.option("--out", type=PATH, help="New folder: KITTI files, frames.jsonl, summary.json.")
@click.option("--video", type=PATH, help="MP4 file with the detections drawn in.")
@click.option("--tracker", "with_tracker", is_flag=True, help="Track objects across frames.")
@click.option("--frames", type=click.IntRange(1), help="Stop each camera after this many results.")
@threshold_option
@click.option(
    "--time-limit-s",
    type=Number(0, 86_400, min_open=True),
    default=10.0,
    show_default=True,
    help="Time after which a backend that does not return counts as stuck.",
)
@health_options
@model_options
@click.pass_obj
def run(  # noqa: PLR0913, PLR0917 - one argument per option
    converters: Converters,
    model: Path,
    sources: tuple[str, ...],
    rate_hz: float | None,
    deadline_ms: float | None,
    out: Path | None,
    video: Path | None,
    with_tracker: bool,
    frames: int | None,
    threshold: float,
    time_limit_s: float,
    opening: dict[str, Any],
    watching: HealthOptions,
) -> None:
    """Run MODEL, a file or package, on a stream; late frames are dropped.

    With several --source, frames that come at the same time fill the model's batch. The results of
    camera K, counted from 0, are in OUT/K and VIDEO-K.mp4, its metrics on port PORT + K.

    SIGTERM and SIGINT end it after the current frame, with status 0. SIGHUP opens MODEL again and
    swaps it in once it has passed its checks; if it fails them, the old one stays in use.
    """
    from edgedetr.runtime.commands.cameras import CameraOptions, open_cameras
    from edgedetr.runtime.detector import Detector
    from edgedetr.runtime.inference.swapping import Swapper, SwapRequests
    from edgedetr.runtime.sources.capture import DEFAULT_RATE_HZ
    from edgedetr.runtime.sources.opening import open_source
    from edgedetr.runtime.stream.cameras import run_cameras, stop_cameras

    deadline_ns = round((deadline_ms or 1000 / (rate_hz or DEFAULT_RATE_HZ)) * 1e6)
    options = CameraOptions(deadline_ns, out, video, with_tracker, watching).of_each(len(sources))
    inputs = [*sources, model, watching.digest, watching.clipping]
    require_apart([each.video for each in options], inputs)
    requests = SwapRequests()
    with ExitStack() as stack:
        stack.enter_context(handled("SIGHUP", once=False, action=requests.request))
        opened = [
            stack.enter_context(closing(open_source(source, rate_hz, deadline_ns)))
            for source in sources
        ]
        how: dict[str, Any] = {"threshold": threshold, "time_limit_s": time_limit_s, **opening}
        file = partial(runnable, model, converters)
        detector = stack.enter_context(Detector.open(file(), steady=True, **how))
        cameras = stack.enter_context(open_cameras(detector, opened, options, _report))
        stop = partial(stop_cameras, cameras)
        stack.enter_context(handled("SIGTERM", "SIGINT", once=True, action=stop))
        _report(f"{model} runs on {detector.backend}")
        swap = partial(_swapped, detector, model, file, opening)
        stack.enter_context(Swapper(requests, swap, str(model), _report))
        stack.enter_context(old_objects_kept())
        run_cameras(detector, cameras, frames=frames, on_end=partial(_end, model.name))


def _end(model: str, camera: str, summary: StreamSummary) -> None:
    echo(f"{printable(model)}: {camera and f'{camera}: '}{summary.describe()}")


def _swapped(
    detector: Detector, model: Path, file: Callable[[], Path], opening: dict[str, Any]
) -> str:
    """Swap the model in; return the message."""
    detector.swap(file(), steady=True, **opening)
    return f"{model} is swapped in and runs on {detector.backend}"


def _report(text: str) -> None:
    with suppress(OSError):  # standard error is closed; the stream continues
        echo(f"edgedetr: {printable(text)}", err=True)
