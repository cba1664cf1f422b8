"""``edgedetr verify``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from edgedetr.runtime.commands.options import (
    PATH,
    Number,
    command_line,
    format_option,
    require_apart,
    spec_option,
)
from edgedetr.runtime.commands.output import VERDICT_COLOURS, echo

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.runtime.spec import ModelSpec


@click.command()
@click.argument("reference", type=PATH)
@click.argument("candidate", type=PATH)
@click.option("--images", type=PATH, help="Folder of PNG or JPEG images.")
@click.option("--data", type=PATH, help="A data set, instead; its val split is used.")
@format_option
@spec_option
@click.option("--json", "out", type=PATH, help="Where to write the figures.")
@click.option("--html", type=PATH, help="Where to write a page with charts and the worst frames.")
@click.option("--taps", is_flag=True, help="Show every block; trace a checkpoint for it.")
@click.option(
    "--frames",
    type=click.IntRange(1),
    default=400,
    show_default=True,
    help="Maximum number of images to compare, evenly spread.",
)
@click.option(
    "--threshold", type=Number(0, 1), default=0.3, show_default=True, help="Lowest score."
)
@click.option(
    "--min-iou",
    "iou",
    type=Number(0, 1),
    help="Lowest IoU of a detection and its match; FP16: 0.95, INT8: 0.8.",
)
@click.option(
    "--max-score-error",
    "score_error",
    type=Number(0),
    help="Largest change of its score; FP32: 0.001, FP16: 0.01, INT8: 0.1.",
)
@click.option(
    "--max-box-error-px",
    "box_error_px",
    type=Number(0),
    help="Largest shift of a side of its box; FP32: 0.5.",
)
@click.option(
    "--max-lost",
    "lost_share",
    type=Number(0, 1),
    help="Share of detections that may be lost; FP32: 0, FP16: 0.02, INT8: 0.1.",
)
def verify(  # noqa: PLR0913, PLR0917 - one argument per option
    reference: Path,
    candidate: Path,
    images: Path | None,
    data: Path | None,
    kind: str | None,
    spec: ModelSpec | None,
    out: Path | None,
    html: Path | None,
    taps: bool,
    frames: int,
    threshold: float,
    **gate: float | None,
) -> None:
    """Check that CANDIDATE finds in images what REFERENCE finds; exit 1 where it does not.

    Either is a .safetensors checkpoint, an .onnx file of any precision or a TensorRT .engine;
    REFERENCE may be a name of the Hugging Face hub, which is imported first. The limits are those
    of the coarser precision of the two. In FP32 no detection may be lost, however many frames there
    are. In FP16 and INT8 the share of lost ones is tested: frames are added until it is within its
    limit or beyond it with 95 % confidence, or none are left.

    A checkpoint that was trained for INT8 rounds like its INT8 export if the other model is INT8,
    and computes in float otherwise. Models that take batches are checked row by row; every
    activation of an ONNX graph is checked for NaN and overflow, and its blocks one by one.
    """
    from edgedetr.export.verify import compare
    from edgedetr.export.verify.frames import ImageFiles, gate_images
    from edgedetr.export.verify.limits import Gate
    from edgedetr.export.verify.matching import Rule
    from edgedetr.export.verify.page import page
    from edgedetr.runtime.errors import GateError
    from edgedetr.runtime.files import write_text
    from edgedetr.runtime.hub import is_foreign

    if is_foreign(reference):
        from edgedetr.distill.weights.imported_cache import local_checkpoint

        reference = local_checkpoint(reference)
    require_apart([out, html], [reference, candidate])
    paths = gate_images(images, data, frames, kind)
    options = compare.Options(spec, tuple(path.name for path in paths), traced=taps)
    seen, rule = ImageFiles(paths, "verify"), Rule(threshold)
    report = compare.verify(reference, candidate, seen, rule, Gate(**gate), command_line(), options)
    if out:
        write_text(out, json.dumps(report.to_dict(), indent=2) + "\n")
    if html:
        write_text(html, page(report))
    if taps and report.activations and report.activations.blocks:
        echo(report.activations.block_table() + "\n")
    *table, verdict = report.table().splitlines()
    echo("\n".join(table))
    echo(verdict, colour=VERDICT_COLOURS[report.verdict])
    if not report.passed:
        block = report.first_diverging
        where = f"; the first diverging block is {block}" if block else ""
        says = {"failed": "does not find", "undecided": "may not find"}[report.verdict]
        raise GateError(f"{candidate} {says} what {reference} finds: {report.reason}{where}")
