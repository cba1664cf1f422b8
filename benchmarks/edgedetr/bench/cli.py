"""Commands of the benchmarks: bench, gate, report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from edgedetr.runtime.commands.options import (
    PATH,
    command_line,
    format_option,
    model_options,
    require_apart,
)
from edgedetr.runtime.commands.output import VERDICT_COLOURS, echo
from edgedetr.runtime.files import write_text
from edgedetr.runtime.printable import counted, printable

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
@click.option("--frames", type=click.IntRange(1, 1_000_000), default=200, show_default=True)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="Threads of the network; default: one per core.",
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
    """Time MODEL, a file or a package: the network alone and end to end, on the same frames."""
    from edgedetr.bench.latency import measure_latency

    require_apart([out], [model, opening["public_key"]])
    command = command_line()
    report = measure_latency(model, images, frames, threads, opening=opening, command=command)
    write_text(out, json.dumps(report.to_dict(), indent=2) + "\n")
    whole = report.end_to_end
    echo(
        f"{printable(model.name)}: {counted(frames, 'frame')}, "
        f"session p50 {report.floor_ms:.2f} ms; end to end p50 {whole.p50_ms:.2f}, "
        f"p90 {whole.p90_ms:.2f}, p99 {whole.p99_ms:.2f} ms; "
        f"overhead ratio {report.overhead_ratio:.3f}; {report.backend}"
    )


@bench.command()
@click.argument("model", type=PATH)
@click.option("--images", type=PATH, required=True, help="Folder of PNG or JPEG images.")
@click.option("-o", "--output", type=PATH, required=True, help="Where to write the figures.")
@click.option("--short", is_flag=True, help="1,500 frames of each kind: minutes, not hours.")
@click.option(
    "--reference",
    type=PATH,
    help="ONNX file whose detections in ONNX Runtime are the reference; default: MODEL.",
)
@model_options
def automotive(
    model: Path,
    images: Path,
    output: Path,
    short: bool,
    reference: Path | None,
    opening: dict[str, Any],
) -> None:
    """Time MODEL by the protocol of MLPerf Automotive; the results are unofficial.

    6,636 frames one after another, then 100,000 each at 15, 10 and 30 Hz. The exit status is 1 if
    less than 99.9 % of the reference's detections were found; the figures are written all the same.
    """
    from edgedetr.bench.automotive import FULL, SHORT, measure_automotive
    from edgedetr.runtime.errors import GateError

    require_apart([output], [model, reference, opening["public_key"]])
    plan = SHORT if short else FULL
    how: dict[str, Any] = {"reference": reference, "opening": opening, "command": command_line()}
    report = measure_automotive(model, images, plan, **how)
    write_text(output, json.dumps(report.to_dict(), indent=2) + "\n")
    echo(report.describe())
    if not report.accuracy.holds:
        lost = f"{report.accuracy.lost} of {report.accuracy.detections}"
        raise GateError(
            f"{model}: {lost} detections differ from those of {report.accuracy.reference} in ONNX "
            "Runtime, at most 0.1 % may; run edgedetr verify to see which"
        )


@click.command()
@click.argument("run", type=PATH, required=False)
@click.option("--data", type=PATH, help="Data set; default: that of the training run.")
@format_option
@click.option("--teacher", type=PATH, help="ONNX file or checkpoint; default: RUN/teacher.onnx.")
@click.option("--frames", type=click.IntRange(1), help="Use only the first N frames of the split.")
@click.option("--check", is_flag=True, help="Only print the verdict of the gates; measure nothing.")
@click.option(
    "--compare",
    type=(PATH, PATH),
    metavar="OLD.json NEW.json",
    help="Only print what changed from one report to another.",
)
@click.option("--json", "out", type=PATH, help="Write what --compare found to this file, too.")
@click.option("--schema", is_flag=True, help="Only print the JSON Schema of report.json.")
def report(  # noqa: PLR0913, PLR0917 - one argument per option
    run: Path | None,
    data: Path | None,
    kind: str | None,
    teacher: Path | None,
    frames: int | None,
    check: bool,
    compare: tuple[Path, Path] | None,
    out: Path | None,
    schema: bool,
) -> None:
    """Compare the models in the folder RUN; write RUN/report.json and RUN/report.html.

    The exit status is 1 if a gate of RUN did not pass; the report is written all the same.
    """
    from edgedetr.runtime.errors import GateError, UsageError

    if (compare or schema) and run:
        raise UsageError(f"--compare and --schema measure nothing; leave out {run}")
    if out and not compare:
        raise UsageError("--json goes with --compare; a report writes RUN/report.json")
    if compare:
        echo(_compared(*compare, out))
        return
    if schema:
        echo(_schema(), nl=False)
        return
    if run is None:
        raise UsageError("no run is given; wanted edgedetr report RUN, or --compare OLD NEW")
    verdict = _verdict(run) if check else _written(run, (data, kind, frames), teacher)
    if not verdict.holds:
        raise GateError(f"{run}: {verdict.word}: {' '.join(verdict.reasons)}")
    line = " ".join([f"{run}: {verdict.word}.", *verdict.reasons])
    echo(printable(line), colour=VERDICT_COLOURS.get(verdict.word))


@click.command()
@click.argument("report_json", type=PATH, metavar="REPORT")
@click.argument("budgets", type=PATH)
@click.option("--json", "out", type=PATH, help="Write the broken budgets to this file, too.")
def gate(report_json: Path, budgets: Path, out: Path | None) -> None:
    """Check REPORT, a report.json, against the BUDGETS in a TOML file; print those broken.

    The exit status is 1 if one is.
    """
    from edgedetr.bench.report.budgets import broken_budgets, read_budgets
    from edgedetr.bench.report.record import read_report
    from edgedetr.runtime.errors import GateError

    require_apart([out], [report_json, budgets])
    agreed = read_budgets(budgets)
    broken = broken_budgets(read_report(report_json), agreed)
    if out:
        values = {"report": str(report_json), "budgets": str(budgets), "broken": broken}
        write_text(out, json.dumps(values, indent=2) + "\n")
    for text in broken:
        echo(text, colour="red")
    if broken:
        raise GateError(f"{report_json}: {counted(len(broken), 'budget')} of {budgets} broken")
    held = sum(map(len, agreed.models.values()))
    held_all = f"{report_json}: {counted(held, 'budget')} of figures held"
    echo(printable(held_all), colour="green")


def _compared(old: Path, new: Path, out: Path | None) -> str:
    from edgedetr.bench.report.changes import changes, changes_dict
    from edgedetr.bench.report.record import read_report

    require_apart([out], [old, new])
    before, after = read_report(old), read_report(new)
    if out:
        write_text(out, json.dumps(changes_dict(before, after), indent=2) + "\n")
    return changes(before, after)


def _schema() -> str:
    from edgedetr.bench.report.schema import report_schema

    return report_schema()


def _verdict(run: Path) -> Verdict:
    """Read the verdict of a run's gates."""
    from edgedetr.bench.report.run_folder import read_run_folder
    from edgedetr.bench.report.verdict import verdict

    folder = read_run_folder(run)
    return verdict(folder.parity, folder.coverage)


def _written(
    run: Path, choice: tuple[Path | None, str | None, int | None], teacher: Path | None
) -> Verdict:
    """Measure, write and print."""
    from edgedetr.bench.report.assemble import DataChoice, write_report
    from edgedetr.bench.report.table import as_text

    data, kind, frames = choice
    found = write_report(run, DataChoice(data, frames, kind), teacher, command_line())
    echo(as_text(found))
    for text in found.missing:
        echo(text)
    echo(printable(f"Open {run / 'report.html'}"))
    return found.verdict


COMMANDS: tuple[click.Command, ...] = (bench, gate, report)
