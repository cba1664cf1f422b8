"""Commands of the export stage: export, verify."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from edgedetr.runtime.command_line import PATH, command_line

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.export.deformable_attention import Form

FORMS = ("gather", "grid_sample", "discrete")

EXPORT_FRAMES = 8
"""How many images of a folder an exported model is checked on."""


@click.group()
def export() -> None:
    """Convert a checkpoint to ONNX, and ONNX to INT8."""


@export.command()
@click.argument("checkpoint", type=PATH)
@click.option("-o", "--output", type=PATH, help="Default: CHECKPOINT with the suffix .onnx.")
@click.option("--images", type=PATH, help="Folder of images to check on; made up if not given.")
@click.option("--simplify/--no-simplify", default=True, help="Fold what is constant.")
@click.option(
    "--deformable-attention",
    type=click.Choice(FORMS),
    default="gather",
    show_default=True,
    help="How feature maps are read: by Gather, by GridSample, or the nearest cell alone.",
)
def onnx(
    checkpoint: Path,
    output: Path | None,
    images: Path | None,
    simplify: bool,
    deformable_attention: Form,
) -> None:
    """Write CHECKPOINT as ONNX, once it is checked against PyTorch."""
    from edgedetr.calib.collect import choose_frames
    from edgedetr.export.to_onnx import export_onnx
    from edgedetr.runtime.images import list_images, read_image

    paths = choose_frames(list_images(images), EXPORT_FRAMES) if images else None
    frames = None if paths is None else map(read_image, paths)
    output = output or checkpoint.with_suffix(".onnx")
    done = export_onnx(
        checkpoint,
        output,
        frames,
        simplified=simplify,
        deformable_attention=deformable_attention,
        command=command_line(),
    )
    if done.problem:
        click.echo(f"Not simplified: {done.problem}", err=True)
    for finding in done.broken:
        click.echo(f"TensorRT would break it: {finding}", err=True)
    if done.moved:
        click.echo(f"Against the checkpoint's own sampling: {done.moved.summary()}", err=True)
    size_mib = output.stat().st_size / 2**20
    click.echo(f"{output}: {done.nodes} nodes, {size_mib:.2f} MiB; {done.parity.summary()}")


@export.command()
@click.argument("model", type=PATH)
@click.argument("stats", type=PATH)
@click.option("-o", "--output", type=PATH, help="Default: MODEL with the suffix .int8.onnx.")
@click.option("--include", default="", help="Regex: also quantize nodes whose names it finds.")
@click.option("--exclude", default="", help="Regex: keep nodes float whose names it finds.")
def qdq(model: Path, stats: Path, output: Path | None, include: str, exclude: str) -> None:
    """Quantize MODEL to INT8 with the ranges in STATS, as Q/DQ nodes for TensorRT."""
    from edgedetr.export.to_qdq import export_qdq

    output = output or model.with_suffix(".int8.onnx")
    share = export_qdq(model, stats, output, include, exclude)
    click.echo(f"{output}: {share.describe()}, {output.stat().st_size / 2**20:.2f} MiB")


@click.command()
@click.argument("reference", type=PATH)
@click.argument("candidate", type=PATH)
@click.option("--images", type=PATH, required=True, help="Folder of PNG or JPEG images.")
@click.option("--json", "out", type=PATH, help="Where to write the figures.")
@click.option("--frames", type=click.IntRange(1), help="Only so many, evenly spread over all.")
@click.option(
    "--threshold", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="Lowest score."
)
@click.option(
    "--max-box-error-px",
    type=click.FloatRange(0),
    help="FP32: of the worst box, 0.5; INT8: of 99 % of the boxes, 8.",
)
@click.option(
    "--max-score-error",
    type=click.FloatRange(0),
    help="FP32: of the worst score, 0.001; INT8: of their mean, 0.05.",
)
@click.option(
    "--max-unmatched",
    type=click.FloatRange(0, 1),
    help="Share of detections without a partner; FP32: 0; INT8: 0.1.",
)
def verify(  # noqa: PLR0913, PLR0917 - one argument per option
    reference: Path,
    candidate: Path,
    images: Path,
    out: Path | None,
    frames: int | None,
    threshold: float,
    max_box_error_px: float | None,
    max_score_error: float | None,
    max_unmatched: float | None,
) -> None:
    """Check that CANDIDATE finds in images what REFERENCE finds; exit 1 where it does not.

    Either is a .safetensors checkpoint or an .onnx file of any precision. The limits of INT8 hold
    where one of them has INT8 nodes.
    """
    from tqdm import tqdm

    from edgedetr.calib.collect import choose_frames
    from edgedetr.export import parity
    from edgedetr.export.matching import Rule
    from edgedetr.runtime.errors import GateError
    from edgedetr.runtime.files import write_text
    from edgedetr.runtime.images import list_images, read_image

    paths = list_images(images)
    paths = choose_frames(paths, frames or len(paths))
    seen = map(read_image, tqdm(paths, "verify", unit="frame", disable=None, leave=False))
    gate = parity.Gate(max_box_error_px, max_score_error, max_unmatched)
    report = parity.verify(reference, candidate, seen, Rule(threshold), gate, command_line())
    if out:
        write_text(out, json.dumps(report.to_dict(), indent=2) + "\n")
    click.echo(report.table())
    if not report.passed:
        raise GateError(f"{candidate} does not find what {reference} finds: {report.reason}")


COMMANDS: tuple[click.Command, ...] = (export, verify)
