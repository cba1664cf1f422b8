"""``edgedetr verify``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from edgedetr.runtime.command_line import PATH, command_line

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("reference", type=PATH)
@click.argument("candidate", type=PATH)
@click.option("--images", type=PATH, required=True, help="Folder of PNG or JPEG images.")
@click.option("--spec", "spec_path", type=PATH, help="TOML spec of models that carry none.")
@click.option("--json", "out", type=PATH, help="Where to write the figures.")
@click.option("--html", type=PATH, help="Where to write a page with charts and the worst frames.")
@click.option("--taps", is_flag=True, help="Show every block; trace a checkpoint for it.")
@click.option("--frames", type=click.IntRange(1), help="Only so many, evenly spread over all.")
@click.option(
    "--threshold", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="Lowest score."
)
@click.option(
    "--max-box-error-px",
    type=click.FloatRange(0),
    help="Of the worst box, FP32: 0.5, FP16: 2; INT8: of 99 % of the boxes, 8.",
)
@click.option(
    "--max-score-error",
    type=click.FloatRange(0),
    help="Of the worst score, FP32: 0.001, FP16: 0.005; INT8: of their mean, 0.05.",
)
@click.option(
    "--max-unmatched",
    type=click.FloatRange(0, 1),
    help="Share of detections without a partner; FP32: 0, FP16: 0.01, INT8: 0.1.",
)
def verify(  # noqa: PLR0913, PLR0917 - one argument per option
    reference: Path,
    candidate: Path,
    images: Path,
    spec_path: Path | None,
    out: Path | None,
    html: Path | None,
    taps: bool,
    frames: int | None,
    threshold: float,
    max_box_error_px: float | None,
    max_score_error: float | None,
    max_unmatched: float | None,
) -> None:
    """Check that CANDIDATE finds in images what REFERENCE finds; exit 1 where it does not.

    Either is a .safetensors checkpoint, an .onnx file of any precision or a TensorRT .engine. The
    limits are those of the coarser precision of the two. A checkpoint that was trained for INT8
    rounds as its INT8 export does where the other is INT8, and else computes in float. Models that
    take batches are checked row by row, every activation of an ONNX graph for NaN and overflow, and
    its blocks one by one.
    """
    from tqdm import tqdm

    from edgedetr.calib.collect import choose_frames
    from edgedetr.export import parity
    from edgedetr.export.matching import Rule
    from edgedetr.export.verify_page import page
    from edgedetr.runtime.errors import GateError
    from edgedetr.runtime.files import write_text
    from edgedetr.runtime.images import list_images, read_image
    from edgedetr.runtime.spec import spec_from_toml

    spec = spec_from_toml(spec_path) if spec_path else None
    paths = list_images(images)
    paths = choose_frames(paths, frames or len(paths))
    seen = map(read_image, tqdm(paths, "verify", unit="frame", disable=None, leave=False))
    gate = parity.Gate(max_box_error_px, max_score_error, max_unmatched)
    looks = parity.Looks(spec, tuple(path.name for path in paths), traced=taps)
    report = parity.verify(reference, candidate, seen, Rule(threshold), gate, command_line(), looks)
    if out:
        write_text(out, json.dumps(report.to_dict(), indent=2) + "\n")
    if html:
        write_text(html, page(report))
    if taps and report.activations and report.activations.blocks:
        click.echo(report.activations.block_table() + "\n")
    click.echo(report.table())
    if not report.passed:
        where = f"; the first block that departs is {report.departs}" if report.departs else ""
        raise GateError(f"{candidate} does not find what {reference} finds: {report.reason}{where}")
