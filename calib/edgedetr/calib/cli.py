"""Commands of the calibration stage."""

from __future__ import annotations

import click


@click.group()
def calib() -> None:
    """Measure activation ranges for INT8."""


COMMANDS: tuple[click.Command, ...] = (calib,)
