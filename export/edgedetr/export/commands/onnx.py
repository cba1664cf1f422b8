"""``edgedetr export onnx``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgedetr.runtime.commands.options import (
    PATH,
    beside,
    command_line,
    json_option,
    require_apart,
)
from edgedetr.runtime.commands.output import echo, write_figures
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from edgedetr.export.transforms.deformable_attention import Form

FORMS = ("gather", "gather_sum", "grid_sample", "plugin", "discrete")

EXPORT_FRAMES = 8
"""Images of a folder that an exported model is checked on."""


@click.command()
@click.argument("checkpoint", type=PATH)
@click.option("-o", "--output", type=PATH, help="Default: CHECKPOINT with the suffix .onnx.")
@click.option("--images", type=PATH, help="Images to check on; generated if not given.")
@click.option("--simplify/--no-simplify", default=True, help="Fold constants.")
@click.option(
    "--deformable-attention",
    type=click.Choice(FORMS),
    default="gather",
    show_default=True,
    help="How feature maps are sampled: Gather and a product, or Gather, Mul and Sum; GridSample "
    "and RoiAlign; TensorRT's plugin; the nearest cell.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Images that the graph takes at once: those of several cameras.",
)
@json_option
def onnx(  # noqa: PLR0913, PLR0917 - one argument per option
    checkpoint: Path,
    output: Path | None,
    images: Path | None,
    simplify: bool,
    deformable_attention: Form,
    batch: int,
    figures: Path | None,
) -> None:
    """Export CHECKPOINT to ONNX and check it against PyTorch.

    It may be a name of the Hugging Face hub, or a folder of transformers, which is imported first.
    """
    from edgedetr.calib.frames import choose_frames
    from edgedetr.distill.weights.imported_cache import local_checkpoint
    from edgedetr.export.to_onnx import export_onnx
    from edgedetr.runtime.hub import is_foreign
    from edgedetr.runtime.images import list_images, read_image

    paths = choose_frames(list_images(images), EXPORT_FRAMES) if images else None
    frames = None if paths is None else map(read_image, paths)
    if output is None and is_foreign(checkpoint):
        output = Path(f"{checkpoint.name}.onnx")
    output = output or beside(checkpoint, ".onnx")
    require_apart([output, figures], [checkpoint])
    done = export_onnx(
        local_checkpoint(checkpoint),
        output,
        frames,
        simplified=simplify,
        deformable_attention=deformable_attention,
        batch=batch,
        command=command_line(),
    )
    if done.problem:
        echo(f"Not simplified: {done.problem}", err=True)
    for finding in done.broken:
        echo(f"TensorRT would break it: {finding}", err=True)
    if done.moved:
        echo(f"Compared with the checkpoint's own sampling: {done.moved.summary()}", err=True)
    size_mib = output.stat().st_size / 2**20
    measured = {"nodes": done.nodes, "file_mib": size_mib, "parity": done.parity.to_dict()}
    write_figures(figures, {"model": str(output), **measured})
    echo(printable(f"{output}: {done.nodes} nodes, {size_mib:.2f} MiB; {done.parity.summary()}"))
