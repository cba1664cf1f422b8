"""Commands of the distillation stage: data, distill, evaluate."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click


@click.group()
def data() -> None:
    """Make and check data sets."""


@click.group()
def distill() -> None:
    """Train a student with or without a teacher."""


@distill.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run: runs/CONFIG.")
def train(config: Path, overrides: tuple[str, ...], out: Path | None) -> None:
    """Train the student that CONFIG describes; a killed run goes on where it was."""
    from edgedetr.distill.config import load_config
    from edgedetr.distill.recipe import train as run

    out = out or Path("runs") / config.stem
    command = shlex.join(["edgedetr", *sys.argv[1:]])
    metrics = run(load_config(config, overrides), out, command)
    click.echo(
        f"{out / 'student.safetensors'}: AP {metrics['ap']:.3f}, AP50 {metrics['ap50']:.3f} "
        f"on the validation split, {metrics['seconds']:.0f} s"
    )


@click.group()
def evaluate() -> None:
    """Score detections against labels."""


COMMANDS: tuple[click.Command, ...] = (data, distill, evaluate)
