"""``edgedetr export fp16``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgedetr.runtime.command_line import PATH, command_line

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("model", type=PATH)
@click.option("--spec", "spec_path", type=PATH, help="TOML spec of a model that carries none.")
@click.option("--images", type=PATH, help="Folder of images to measure on; made up if not given.")
@click.option("-o", "--output", type=PATH, help="Default: MODEL with the suffix .fp16.onnx.")
def fp16(model: Path, spec_path: Path | None, images: Path | None, output: Path | None) -> None:
    """Write MODEL as a typed FP16 graph for TensorRT, with FP32 where FP16 is too narrow."""
    from edgedetr.export.to_fp16 import export_fp16, frames_of
    from edgedetr.runtime.spec import spec_from_toml

    spec = spec_from_toml(spec_path) if spec_path else None
    output = output or model.with_suffix(".fp16.onnx")
    share = export_fp16(model, output, spec, frames_of(images) if images else None, command_line())
    click.echo(f"{output}: {share.describe()}, {output.stat().st_size / 2**20:.2f} MiB")
