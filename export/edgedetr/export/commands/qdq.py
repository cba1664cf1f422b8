"""``edgedetr export qdq``."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from edgedetr.calib.targets import TARGETS
from edgedetr.runtime.commands.options import (
    PATH,
    SPEC_FILE,
    Number,
    beside,
    command_line,
    format_option,
    json_option,
    require_apart,
    spec_option,
)
from edgedetr.runtime.commands.output import echo, write_figures
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.calib.targets import Target
    from edgedetr.export.search.int8_choice import Chosen, Request
    from edgedetr.export.transforms.quantize import Rest
    from edgedetr.runtime.spec import ModelSpec


GATE_FRAMES, AP_FRAMES = 200, 500

_LABEL_FREE = ("--max-score-error", "--max-iou-loss")
_BESIDE = ("--min-speedup",)
_OPTIONS = ("--gate", "--max-ap-drop", *_LABEL_FREE, *_BESIDE)


@click.command()
@click.argument("model", type=PATH)
@click.argument("stats", type=PATH, required=False)
@click.option("-o", "--output", type=PATH, help="Default: MODEL with the suffix .int8.onnx.")
@click.option("--include", default="", help="Regex of names: further nodes to quantize.")
@click.option("--exclude", default="", help="Regex of names: nodes to keep float.")
@click.option(
    "--for",
    "target",
    type=click.Choice(TARGETS),
    default=TARGETS[0],
    show_default=True,
    help="What will run the model.",
)
@click.option(
    "--rest",
    type=click.Choice(("fp16", "fp32")),
    help="Precision of the nodes that are not INT8. Default: fp16 for tensorrt, fp32 for CPUs.",
)
@spec_option
@click.option(
    "--images",
    type=PATH,
    help="Images to check limits on, and for --rest fp16 to measure ranges on.",
)
@click.option(
    "--max-score-error",
    type=Number(0, 1, min_open=True),
    help="Quantize as much as keeps 90 % of the scores within this, on images that calibration "
    "has not seen. Default with --max-iou-loss: 0.1.",
)
@click.option(
    "--max-iou-loss",
    type=Number(0, 1),
    help="The same for boxes: 1 less the IoU. Default with --max-score-error: 0.2.",
)
@click.option(
    "--min-speedup",
    type=Number(0, min_open=True),
    help="Write nothing unless INT8 is this many times as fast as FP32 and FP16 in --for.",
)
@click.option(
    "--max-ap-drop",
    type=Number(0, 100),
    help="Quantize as much as costs at most this AP on --data, in points (0 to 100).",
)
@click.option(
    "--gate",
    is_flag=True,
    help="Quantize as much as passes edgedetr verify on --data.",
)
@click.option(
    "--data",
    type=PATH,
    help="Data set: its val split for --max-ap-drop, its train split for other limits.",
)
@format_option
@click.option(
    "--frames",
    type=click.IntRange(1),
    help="Maximum number of frames, evenly spread. Default: 500 for --max-ap-drop, else 200.",
)
@json_option
def qdq(  # noqa: PLR0913, PLR0917 - one argument per option
    model: Path,
    stats: Path | None,
    output: Path | None,
    include: str,
    exclude: str,
    target: Target,
    rest: Rest | None,
    spec: ModelSpec | None,
    images: Path | None,
    data: Path | None,
    kind: str | None,
    frames: int | None,
    figures: Path | None,
    **wanted: Any,  # noqa: ANN401 - the limits
) -> None:
    """Quantize MODEL to INT8 with the ranges in STATS, as Q/DQ nodes for the library of --for.

    A MODEL that was trained for INT8 holds its ranges and needs no STATS. With limits, the
    largest part of it that stays within them is found by measurement.
    """
    from edgedetr.export.to_fp16 import frames_of
    from edgedetr.export.to_qdq import export_qdq
    from edgedetr.export.transforms.quantize import rest_of

    rest = rest or rest_of(target)
    output = output or beside(model, ".int8.onnx")
    require_apart([output, figures], [model, stats])
    option = _search(wanted)
    _check(option, stats, data, images, include + exclude)
    seen = list(frames_of(images)) if images else None
    if option and stats:
        request = _request(option, data, images, wanted, frames)
        request = replace(request, rest=rest, images=seen, kind=kind, target=target)
        files = model, stats, output
        chosen = _chosen(option, files, request, include, exclude)
        include, exclude = chosen.include, chosen.exclude
        echo("".join(f"{line}\n" for line in chosen.lines), nl=False)
    named = {"--spec": click.get_current_context().meta[SPEC_FILE].name} if spec else {}
    named |= {"--images": images.name} if images else {}
    share = export_qdq(model, stats, output, include, exclude, rest, spec, seen, named, target)
    size_mib = output.stat().st_size / 2**20
    write_figures(figures, {"model": str(output), "file_mib": size_mib, **asdict(share)})
    echo(printable(f"{output}: {share.describe()}, {size_mib:.2f} MiB"))


def _search(wanted: dict[str, Any]) -> str:
    """Name the option that decides what is quantized; empty where there is none.

    Raises:
        UsageError: If there are two.
    """
    given = [o for o in _OPTIONS if wanted[o[2:].replace("-", "_")] not in (None, False)]
    deciding = [o for o in given if o not in _BESIDE]
    if len(deciding) > 1 and set(deciding) != set(_LABEL_FREE):
        raise UsageError(f"give either {' or '.join(deciding)}")
    return next(iter([*deciding, *given]), "")


def _check(
    option: str, stats: Path | None, data: Path | None, images: Path | None, choice: str
) -> None:
    """Refuse a search that lacks something, or that leaves nothing to search for."""
    if not option or (option in _BESIDE and stats):
        return
    if option in _BESIDE:
        raise UsageError(f"{option} needs STATS")
    source = "--images DIR or --data ROOT" if option in _LABEL_FREE else "--data ROOT"
    has_source = data or (images and option in _LABEL_FREE)
    if stats is None or not has_source or choice:
        raise UsageError(f"{option} needs STATS and {source}, and takes no --include or --exclude")


def _request(
    option: str,
    data: Path | None,
    images: Path | None,
    wanted: dict[str, Any],
    frames: int | None,
) -> Request:
    """Make the request of a search."""
    from edgedetr.export.search.int8_choice import Request
    from edgedetr.export.verify.limits import Gate

    limits, loss = None, wanted["max_iou_loss"]
    if option in _LABEL_FREE:
        iou = None if loss is None else 1 - loss
        limits = Gate(iou, wanted["max_score_error"]).limits("int8")
    return Request(
        data,
        frames or (AP_FRAMES if option == "--max-ap-drop" else GATE_FRAMES),
        wanted["max_ap_drop"],
        folder=None if data else images,
        limits=limits,
        min_speedup=wanted["min_speedup"],
    )


def _chosen(
    option: str, files: tuple[Path, Path, Path], request: Request, include: str, exclude: str
) -> Chosen:
    """Search for what goes into INT8, or only measure how fast it is."""
    from edgedetr.export.search.int8_choice import Chosen, check_speed, choose_coverage

    model, stats, output = files
    if option not in _BESIDE:
        return choose_coverage(model, stats, output, request, command_line())
    return Chosen(include, exclude, (check_speed(model, stats, request, include, exclude),))
