"""``edgedetr export fp16``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgedetr.runtime.commands.options import PATH, Number, command_line, require_apart
from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("model", type=PATH)
@click.option("--spec", "spec_path", type=PATH, help="TOML spec of a model that carries none.")
@click.option("--images", type=PATH, help="Folder of images to measure on; made up if not given.")
@click.option("-o", "--output", type=PATH, help="Default: MODEL with the suffix .fp16.onnx.")
@click.option(
    "--max-box-error-px",
    type=Number(0, min_open=True),
    help="Keep blocks in FP32 until 98 % of the boxes on --images are no farther off.",
)
@click.option(
    "--max-score-error",
    type=Number(0, min_open=True),
    help="Likewise of the scores; 0.01 with --max-box-error-px.",
)
@click.option(
    "--frames",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="For these limits: at most so many of --images, evenly spread.",
)
def fp16(  # noqa: PLR0913, PLR0917 - one argument per option
    model: Path,
    spec_path: Path | None,
    images: Path | None,
    output: Path | None,
    max_box_error_px: float | None,
    max_score_error: float | None,
    frames: int,
) -> None:
    """Write MODEL as a typed FP16 graph for TensorRT, with FP32 where FP16 is too narrow.

    With a limit, it measures what each block costs in FP16 and keeps the costliest in FP32 until
    the limit holds for 98 % of the detections, surely; it writes nothing where half of the work in
    FP32 does not hold it.
    """
    from edgedetr.export.search.fp16_blocks import Request
    from edgedetr.export.to_fp16 import export_fp16, frames_of
    from edgedetr.export.verify.limits import Gate
    from edgedetr.runtime.spec import spec_from_toml

    request = None
    if max_box_error_px is not None or max_score_error is not None:
        if images is None:
            raise UsageError("--max-box-error-px and --max-score-error want --images DIR")
        gate = Gate(box_error_px=max_box_error_px, score_error=max_score_error)
        request = Request(images, frames, gate.limits("fp16"))

    spec = spec_from_toml(spec_path) if spec_path else None
    output = output or model.with_suffix(".fp16.onnx")
    require_apart([output], [model, spec_path])
    seen = frames_of(images) if images else None
    share = export_fp16(model, output, spec, seen, command_line(), request)
    click.echo(f"{output}: {share.describe()}, {output.stat().st_size / 2**20:.2f} MiB")
