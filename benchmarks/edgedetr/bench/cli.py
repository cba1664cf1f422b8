"""Commands of the benchmarks: bench, report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from edgedetr.runtime.commands.model_options import model_options
from edgedetr.runtime.commands.options import PATH, command_line, require_apart
from edgedetr.runtime.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.bench.report.contents import Verdict


@click.group()
def bench() -> None:
    """Measure latency."""


@bench.command()
@click.argument("model", type=PATH)
@click.option("--images", type=PATH, required=True, help="Folder of PNG or JPEG images.")
@click.option("--json", "out", type=PATH, required=True, help="Where to write the figures.")
@click.option("--frames", type=click.IntRange(1), default=200, show_default=True)
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="Of the network; one per core if not given."
)
@model_options
def latency(
    model: Path,
    images: Path,
    out: Path,
    frames: int,
    threads: int | None,
    opening: dict[str, Any],
) -> None:
    """Time MODEL, a file or package, bare and end to end, in turns, on the same frames."""
    from edgedetr.bench.latency import measure_latency

    require_apart([out], [model])
    command = command_line()
    report = measure_latency(model, images, frames, threads, opening=opening, command=command)
    write_text(out, json.dumps(report.to_dict(), indent=2) + "\n")
    whole = report.end_to_end
    click.echo(
        f"{model.name}: {frames} frames, session p50 {report.floor_ms:.2f} ms; end to end p50 "
        f"{whole.p50_ms:.2f}, p90 {whole.p90_ms:.2f}, p99 {whole.p99_ms:.2f} ms; "
        f"overhead ratio {report.overhead_ratio:.3f}; {report.backend}"
    )


@click.command()
@click.argument("run", type=PATH)
@click.option("--data", type=PATH, help="Data set; that of the training run if not given.")
@click.option("--teacher", type=PATH, help="ONNX or checkpoint; RUN/teacher.onnx if not given.")
@click.option("--frames", type=click.IntRange(1), help="Only so many frames of the split.")
@click.option("--check", is_flag=True, help="Measure and write nothing: say what the gates say.")
def report(
    run: Path, data: Path | None, teacher: Path | None, frames: int | None, check: bool
) -> None:
    """Compare the models of the folder RUN: RUN/report.json and RUN/report.html.

    Exit status 1, once they are written, where a gate of RUN did not pass.
    """
    from edgedetr.runtime.errors import GateError

    verdict = _verdict(run) if check else _written(run, data, teacher, frames)
    if not verdict.holds:
        raise GateError(f"{run}: {verdict.word}: {' '.join(verdict.reasons)}")
    click.echo(" ".join([f"{run}: {verdict.word}.", *verdict.reasons]))


def _verdict(run: Path) -> Verdict:
    """Read what the gates of a run say."""
    from edgedetr.bench.report.run_folder import read_run_folder
    from edgedetr.bench.report.verdict import verdict

    folder = read_run_folder(run)
    return verdict(folder.parity, folder.coverage)


def _written(run: Path, data: Path | None, teacher: Path | None, frames: int | None) -> Verdict:
    """Measure, write and print."""
    from edgedetr.bench.report.assemble import DataChoice, write_report
    from edgedetr.bench.report.table import as_text

    found = write_report(run, DataChoice(data, frames), teacher, command_line())
    click.echo(as_text(found))
    for text in found.missing:
        click.echo(text)
    click.echo(f"Open {run / 'report.html'}")
    return found.verdict


COMMANDS: tuple[click.Command, ...] = (bench, report)
