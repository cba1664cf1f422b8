"""Commands of the distillation stage: data, distill, evaluate."""

from __future__ import annotations

import click


@click.group()
def data() -> None:
    """Make and check data sets."""


@click.group()
def distill() -> None:
    """Train a student with or without a teacher."""


@click.group()
def evaluate() -> None:
    """Score detections against labels."""


COMMANDS: tuple[click.Command, ...] = (data, distill, evaluate)
