"""``edgedetr export engine``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from edgedetr.runtime.commands.options import (
    PATH,
    beside,
    command_line,
    json_option,
    require_apart,
    spec_option,
)
from edgedetr.runtime.commands.output import echo, write_figures
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from tqdm import tqdm

    from edgedetr.export.engine.log import OnStep
    from edgedetr.runtime.spec import ModelSpec


@click.command()
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, help="Default: MODEL with the suffix .engine.")
@click.option("--backend", help="tensorrt or tensorrt_rtx. Default: the first that is installed.")
@click.option(
    "--compute-capability",
    "compute_capabilities",
    multiple=True,
    help="GPU to build for, such as 8.6; repeatable. tensorrt_rtx: every GPU from 8.0 up.",
)
@spec_option
@click.option("--batch", help="MIN,OPT,MAX, for a model with a dynamic batch.")
@click.option(
    "--workspace-mib",
    type=click.IntRange(1),
    default=1024,
    show_default=True,
    help="Limit of the scratch memory of a layer, in MiB.",
)
@click.option("--timing-cache", type=PATH, help="File of kernel timings; speeds up later builds.")
@click.option("--version-compatible", is_flag=True, help="Let later TensorRT versions run it.")
@click.option(
    "--hardware-compatible", is_flag=True, help="Let every GPU from 8.0 up except Tegra's run it."
)
@click.option("--dla", is_flag=True, help="Place on a Jetson's DLA what it can run; FP16 only.")
@click.option("--tf32", is_flag=True, help="Let FP32 products use TF32: faster, less exact.")
@json_option
def engine(  # noqa: PLR0913, PLR0917 - one argument per option
    model: Path,
    output: Path | None,
    backend: str | None,
    compute_capabilities: tuple[str, ...],
    spec: ModelSpec | None,
    batch: str | None,
    workspace_mib: int,
    timing_cache: Path | None,
    version_compatible: bool,
    hardware_compatible: bool,
    dla: bool,
    tf32: bool,
    figures: Path | None,
) -> None:
    """Build a TensorRT engine from MODEL; its types are those of the ONNX graph."""
    from tqdm import tqdm

    from edgedetr.export.engine.options import EngineOptions, batch_from_text
    from edgedetr.export.to_engine import export_engine

    options = EngineOptions(
        compute_capabilities=compute_capabilities,
        workspace_mib=workspace_mib,
        batch=batch_from_text(batch) if batch else None,
        timing_cache=timing_cache,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        dla=dla,
        tf32=tf32,
    )
    output = output or beside(model, ".engine")
    require_apart([output, timing_cache, figures], [model])
    require_apart([output], [timing_cache])
    with tqdm(desc="engine", unit="step", disable=None, leave=False) as bar:
        report = export_engine(
            model,
            output,
            options,
            backend=backend,
            spec=spec,
            command=command_line(),
            on_step=_shown(bar),
        )
    for note in report.notes:
        echo(note, err=True)
    size_mib = output.stat().st_size / 2**20
    write_figures(figures, {"engine": str(output), "file_mib": size_mib, **asdict(report)})
    weights = "" if report.weights_mib is None else f", of which weights {report.weights_mib:.2f}"
    echo(printable(f"{output}: {report.describe()}; {size_mib:.2f} MiB{weights}"))


def _shown(bar: tqdm[None]) -> OnStep:
    """Show the current phase."""

    def show(phase: str, done: int, steps: int) -> None:
        bar.set_description(phase, refresh=False)
        bar.total, bar.n = steps, done
        bar.update(0)

    return show
