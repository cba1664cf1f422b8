"""Commands of the export stage: export, package, verify."""

from __future__ import annotations

import click

from edgedetr.calib.cli import calib
from edgedetr.export.commands.onnx import onnx
from edgedetr.export.commands.package import package
from edgedetr.export.commands.qdq import qdq
from edgedetr.export.commands.sensitivity import sensitivity
from edgedetr.export.commands.verify import verify


@click.group()
def export() -> None:
    """Convert a checkpoint to ONNX, and ONNX to INT8."""


for command in (onnx, qdq):
    export.add_command(command)
calib.add_command(sensitivity)

COMMANDS: tuple[click.Command, ...] = (export, package, verify)
