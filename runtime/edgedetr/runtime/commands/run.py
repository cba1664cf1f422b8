"""``edgedetr run``."""

from __future__ import annotations

from contextlib import ExitStack, closing, suppress
from functools import partial
from time import monotonic
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
from edgedetr.runtime.commands.signals import handled
from edgedetr.runtime.pacing import old_objects_kept
from edgedetr.runtime.printable import counted, printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgedetr.runtime.commands.conversion import Converters
    from edgedetr.runtime.detector import Detector
    from edgedetr.runtime.health.watch import HealthOptions


@click.command()
@click.argument("model", type=PATH)
@click.option(
    "--source", required=True, help="Folder of images, video, camera number, URL, or pipeline."
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
@click.option("--frames", type=click.IntRange(1), help="Stop after this many results.")
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
    source: str,
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

    SIGTERM and SIGINT end it after the current frame, with status 0. SIGHUP opens MODEL again and
    swaps it in once it has passed its checks; if it fails them, the old one stays in use.
    """
    from edgedetr.runtime.detector import Detector
    from edgedetr.runtime.health.watch import watched
    from edgedetr.runtime.inference.swapping import Swapper, SwapRequests
    from edgedetr.runtime.sources.capture import DEFAULT_RATE_HZ
    from edgedetr.runtime.sources.opening import open_source
    from edgedetr.runtime.stream.result_files import ResultFiles
    from edgedetr.runtime.stream.run import run as run_stream
    from edgedetr.runtime.stream.stream import Stream
    from edgedetr.runtime.stream.tracking import Tracker

    require_apart([video], [source, model, watching.digest, watching.clipping])
    deadline_ns = round((deadline_ms or 1000 / (rate_hz or DEFAULT_RATE_HZ)) * 1e6)
    notes, requests = _Notes(), SwapRequests()
    with ExitStack() as stack:
        stack.enter_context(handled("SIGHUP", once=False, action=requests.request))
        frames_in = stack.enter_context(closing(open_source(source, rate_hz, deadline_ns)))
        how: dict[str, Any] = {"threshold": threshold, "time_limit_s": time_limit_s, **opening}
        file = partial(runnable, model, converters)
        detector = stack.enter_context(Detector.open(file(), steady=True, **how))
        names = detector.spec.class_names
        watch = stack.enter_context(watched(watching, len(names), _report))
        pace: dict[str, Any] = {"rate_hz": frames_in.rate_hz, "class_names": names}
        files = ResultFiles(out, video, **pace, on_problem=notes)
        tracker = Tracker(round(1e9 / frames_in.rate_hz)) if with_tracker else None
        called: dict[str, Any] = {"on_problem": notes, "on_failure": watch.failure}
        stream = Stream(detector, frames_in, deadline_ns=deadline_ns, tracker=tracker, **called)
        stack.enter_context(handled("SIGTERM", "SIGINT", once=True, action=stream.stop.set))
        _report(f"{model} runs on {detector.backend}")
        swap = partial(_swapped, detector, model, file, opening)
        stack.enter_context(Swapper(requests, swap, str(model), _report))
        stack.enter_context(old_objects_kept())
        run_stream(
            detector,
            stream,
            files,
            out=out,
            frames=frames,
            on_result=watch.result,
            on_end=lambda summary: click.echo(f"{printable(model.name)}: {summary.describe()}"),
        )


def _swapped(
    detector: Detector, model: Path, file: Callable[[], Path], opening: dict[str, Any]
) -> str:
    """Swap the model in; return the message."""
    detector.swap(file(), steady=True, **opening)
    return f"{model} is swapped in and runs on {detector.backend}"


def _report(text: str) -> None:
    with suppress(OSError):  # standard error is closed; the stream continues
        click.echo(f"edgedetr: {printable(text)}", err=True)


class _Notes:
    """Prints problems, at most one a second: a camera that fails would flood the log."""

    def __init__(self) -> None:
        self._last_s = -1.0
        self._left_out = 0

    def __call__(self, text: str) -> None:
        if monotonic() - self._last_s < 1:
            self._left_out += 1
            return
        more = f" ({counted(self._left_out, 'message')} left out before)" if self._left_out else ""
        _report(f"{text}{more}")
        self._last_s, self._left_out = monotonic(), 0
