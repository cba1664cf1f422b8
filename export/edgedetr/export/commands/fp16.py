"""``edgedetr export fp16``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from edgedetr.runtime.commands.options import (
    PATH,
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

    from edgedetr.runtime.spec import ModelSpec


@click.command()
@click.argument("model", type=PATH)
@spec_option
@click.option("--images", type=PATH, help="Images to measure ranges on; generated if not given.")
@click.option("--data", type=PATH, help="A data set, instead; its training split is used.")
@format_option
@click.option("-o", "--output", type=PATH, help="Default: MODEL with the suffix .fp16.onnx.")
@click.option(
    "--max-box-error-px",
    type=Number(0, min_open=True),
    help="Keep blocks in FP32 until 98 % of the boxes on --images move no more than this.",
)
@click.option(
    "--max-score-error",
    type=Number(0, min_open=True),
    help="The same for scores. Default with --max-box-error-px: 0.01.",
)
@click.option(
    "--frames",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Maximum number of images to check these limits on, evenly spread.",
)
@json_option
def fp16(  # noqa: PLR0913, PLR0917 - one argument per option
    model: Path,
    spec: ModelSpec | None,
    images: Path | None,
    data: Path | None,
    kind: str | None,
    output: Path | None,
    max_box_error_px: float | None,
    max_score_error: float | None,
    frames: int,
    figures: Path | None,
) -> None:
    """Write MODEL as a typed FP16 graph for TensorRT, with FP32 where FP16 is too narrow.

    With a limit, the error of each block in FP16 is measured, and the blocks with the largest
    errors stay in FP32 until 98 % of the detections are within the limit with 95 % confidence.
    Nothing is written if half of the work in FP32 is not enough.
    """
    from edgedetr.distill.data import training_images
    from edgedetr.export.search.fp32_blocks import Request
    from edgedetr.export.to_fp16 import export_fp16, frames_of, read_spread
    from edgedetr.export.verify.limits import Gate

    if images and data:
        raise UsageError("give either --data ROOT or --images DIR")
    request = None
    if max_box_error_px is not None or max_score_error is not None:
        if images is None:
            raise UsageError("--max-box-error-px and --max-score-error need --images DIR")
        gate = Gate(box_error_px=max_box_error_px, score_error=max_score_error)
        request = Request(images, frames, gate.limits("fp16"))

    output = output or beside(model, ".fp16.onnx")
    require_apart([output, figures], [model])
    seen = frames_of(images) if images else None
    if data:
        seen = read_spread(training_images(data, kind))
    share = export_fp16(model, output, spec, seen, command_line(), request)
    size_mib = output.stat().st_size / 2**20
    write_figures(figures, {"model": str(output), "file_mib": size_mib, **asdict(share)})
    echo(printable(f"{output}: {share.describe()}, {size_mib:.2f} MiB"))
