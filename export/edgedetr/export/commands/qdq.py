"""``edgedetr export qdq``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgedetr.runtime.commands.options import PATH, Number, command_line
from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.export.to_qdq import Rest


GATE_FRAMES, AP_FRAMES = 200, 500


@click.command()
@click.argument("model", type=PATH)
@click.argument("stats", type=PATH, required=False)
@click.option("-o", "--output", type=PATH, help="Default: MODEL with the suffix .int8.onnx.")
@click.option("--include", default="", help="Regex: also quantize nodes whose names it finds.")
@click.option("--exclude", default="", help="Regex: keep nodes float whose names it finds.")
@click.option(
    "--rest",
    type=click.Choice(("fp16", "fp32")),
    default="fp16",
    show_default=True,
    help="What the nodes that are not INT8 compute in; fp32 is faster on CPUs.",
)
@click.option("--spec", "spec_path", type=PATH, help="TOML spec of a model that carries none.")
@click.option(
    "--images",
    type=PATH,
    help="For --rest fp16: images to measure on; made up if not given.",
)
@click.option(
    "--max-ap-drop",
    type=Number(0, 100),
    help="Quantize as much as loses at most so many points of AP (0 to 100) on --data.",
)
@click.option(
    "--gate",
    is_flag=True,
    help="Quantize as much as passes the gate of edgedetr verify on --data.",
)
@click.option(
    "--data",
    type=PATH,
    help="A KITTI folder: its val split for --max-ap-drop, its train split for --gate.",
)
@click.option(
    "--frames",
    type=click.IntRange(1),
    help="At most so many frames of it, evenly spread; 500 for --max-ap-drop, 200 for --gate.",
)
def qdq(  # noqa: PLR0913, PLR0917 - one argument per option
    model: Path,
    stats: Path | None,
    output: Path | None,
    include: str,
    exclude: str,
    rest: Rest,
    spec_path: Path | None,
    images: Path | None,
    max_ap_drop: float | None,
    gate: bool,
    data: Path | None,
    frames: int | None,
) -> None:
    """Quantize MODEL to INT8 with the ranges in STATS, as Q/DQ nodes for TensorRT.

    A MODEL that was trained for INT8 holds its ranges and needs no STATS.
    """
    from edgedetr.export.to_fp16 import frames_of
    from edgedetr.export.to_qdq import export_qdq
    from edgedetr.runtime.spec import spec_from_toml

    spec = spec_from_toml(spec_path) if spec_path else None
    seen = list(frames_of(images)) if images else None
    output = output or model.with_suffix(".int8.onnx")
    if gate or max_ap_drop is not None:
        if gate and max_ap_drop is not None:
            raise UsageError("give either --gate or --max-ap-drop")
        if stats is None or data is None or include or exclude:
            option = "--gate" if gate else "--max-ap-drop"
            raise UsageError(
                f"{option} wants STATS and --data KITTI_ROOT, and no --include or --exclude"
            )
        from edgedetr.export.search.int8_choice import Request, choose_coverage

        frames = frames or (GATE_FRAMES if gate else AP_FRAMES)
        request = Request(data, frames, max_ap_drop, rest, seen)
        chosen = choose_coverage(model, stats, output, request, command_line())
        include, exclude = chosen.include, chosen.exclude
        click.echo("".join(f"{line}\n" for line in chosen.lines), nl=False)
    named = {"--spec": spec_path, "--images": images}
    given = {option: path.name for option, path in named.items() if path}
    share = export_qdq(model, stats, output, include, exclude, rest, spec, seen, given)
    click.echo(f"{output}: {share.describe()}, {output.stat().st_size / 2**20:.2f} MiB")
