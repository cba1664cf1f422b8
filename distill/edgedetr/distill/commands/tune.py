"""``edgedetr distill tune``."""

from __future__ import annotations

import os
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgedetr.runtime.commands.options import PATH, command_line, json_option
from edgedetr.runtime.commands.output import echo, write_figures
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.printable import counted, printable

if TYPE_CHECKING:
    from edgedetr.distill.training.qat import Calibrate


@click.command()
@click.argument("config", type=PATH)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting of CONFIG."
)
@click.option(
    "-o", "--out", type=PATH, help="Folder of the search.", show_default="runs/tune-CONFIG"
)
@json_option
@click.pass_obj
def tune(
    calibrate: Calibrate,
    config: Path,
    overrides: tuple[str, ...],
    out: Path | None,
    figures: Path | None,
) -> None:
    """Search over the settings that CONFIG's section tune.space names, and write the best as TOML.

    Each trial is a run in OUT. A trial that does worse than others did ends early. The same command
    goes on after an interruption.
    """
    if find_spec("optuna") is None:
        raise UsageError("edgedetr distill tune needs Optuna: pip install 'edgedetr[tune]'")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("edgedetr distill tune runs in one process; start it without a launcher")
    from edgedetr.distill.config import load_config
    from edgedetr.distill.tuning import tune as run

    out = out or Path("runs") / f"tune-{config.stem}"
    settings = load_config(config, overrides)
    found = run(settings, out, command_line(), lambda line: echo(printable(line)), calibrate)
    write_figures(figures, {**asdict(found), "path": str(found.path)})
    echo(
        printable(
            f"{found.path}: {settings.tune.metric} {found.value:.4f}, the best of "
            f"{counted(found.trials, 'trial')}; {found.pruned} ended early, {found.failed} failed"
        )
    )
