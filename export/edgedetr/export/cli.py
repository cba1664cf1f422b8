"""Commands of the export stage: export, package, spec, verify."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgedetr.calib.cli import calib
from edgedetr.distill.cli import distill
from edgedetr.export.checkpoint_cache import exported, imported_and_exported
from edgedetr.export.commands.calib import listed
from edgedetr.export.commands.clipping import clipping
from edgedetr.export.commands.deploy import deploy
from edgedetr.export.commands.distill import calibrated
from edgedetr.export.commands.engine import engine
from edgedetr.export.commands.fp16 import fp16
from edgedetr.export.commands.onnx import onnx
from edgedetr.export.commands.package import package
from edgedetr.export.commands.qdq import qdq
from edgedetr.export.commands.sensitivity import sensitivity
from edgedetr.export.commands.spec import spec
from edgedetr.export.commands.verify import verify
from edgedetr.runtime.commands.conversion import CHECKPOINT, FOREIGN

if TYPE_CHECKING:
    from edgedetr.runtime.commands.conversion import Converters


@click.group()
def export() -> None:
    """Convert a checkpoint to ONNX, ONNX to FP16 and INT8, and those to engines."""


for command in (onnx, fp16, qdq, engine, clipping, deploy):
    export.add_command(command)
calib.add_command(sensitivity)
distill.context_settings["obj"] = calibrated
calib.context_settings["obj"] = listed

COMMANDS: tuple[click.Command, ...] = (export, package, spec, verify)
CONVERTERS: Converters = {CHECKPOINT: exported, FOREIGN: imported_and_exported}
