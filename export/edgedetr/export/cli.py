"""Commands of the export stage: export, verify."""

from __future__ import annotations

import click


@click.group()
def export() -> None:
    """Convert a checkpoint to ONNX, and ONNX to INT8."""


COMMANDS: tuple[click.Command, ...] = (export,)
