"""``edgedetr export qdq``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgedetr.calib.targets import TARGETS
from edgedetr.runtime.commands.options import (
    PATH,
    SPEC_FILE,
    Number,
    beside,
    command_line,
    format_option,
    require_apart,
    spec_option,
)
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.calib.targets import Target
    from edgedetr.export.transforms.quantize import Rest
    from edgedetr.runtime.spec import ModelSpec


GATE_FRAMES, AP_FRAMES = 200, 500


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
    help="For --rest fp16: images to measure ranges on; generated if not given.",
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
    help="Data set: its val split for --max-ap-drop, its train split for --gate.",
)
@format_option
@click.option(
    "--frames",
    type=click.IntRange(1),
    help="Frames of --data at most, evenly spread. Default: 500 for --max-ap-drop, 200 for --gate.",
)
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
    max_ap_drop: float | None,
    gate: bool,
    data: Path | None,
    kind: str | None,
    frames: int | None,
) -> None:
    """Quantize MODEL to INT8 with the ranges in STATS, as Q/DQ nodes for what will run it.

    A MODEL that was trained for INT8 holds its ranges and needs no STATS.
    """
    from edgedetr.export.to_fp16 import frames_of
    from edgedetr.export.to_qdq import export_qdq
    from edgedetr.export.transforms.quantize import rest_of

    rest = rest or rest_of(target)
    output = output or beside(model, ".int8.onnx")
    require_apart([output], [model, stats])
    seen = list(frames_of(images)) if images else None
    if gate or max_ap_drop is not None:
        if gate and max_ap_drop is not None:
            raise UsageError("give either --gate or --max-ap-drop")
        if stats is None or data is None or include or exclude:
            option = "--gate" if gate else "--max-ap-drop"
            raise UsageError(
                f"{option} needs STATS and --data ROOT, and takes no --include or --exclude"
            )
        from edgedetr.export.search.int8_choice import Request, choose_coverage

        frames = frames or (GATE_FRAMES if gate else AP_FRAMES)
        request = Request(data, frames, max_ap_drop, rest, seen, kind, target)
        chosen = choose_coverage(model, stats, output, request, command_line())
        include, exclude = chosen.include, chosen.exclude
        click.echo("".join(f"{line}\n" for line in chosen.lines), nl=False)
    named = {"--spec": click.get_current_context().meta[SPEC_FILE].name} if spec else {}
    named |= {"--images": images.name} if images else {}
    share = export_qdq(model, stats, output, include, exclude, rest, spec, seen, named, target)
    click.echo(printable(f"{output}: {share.describe()}, {output.stat().st_size / 2**20:.2f} MiB"))
