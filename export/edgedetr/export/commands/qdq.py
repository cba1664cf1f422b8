"""``edgedetr export qdq``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgedetr.runtime.command_line import PATH

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
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
