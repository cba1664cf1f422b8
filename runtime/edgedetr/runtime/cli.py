"""The ``edgedetr`` command: it collects the commands of every stage that is installed."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING

import click

from edgedetr.runtime import __version__
from edgedetr.runtime.commands.detect import detect
from edgedetr.runtime.commands.device import device
from edgedetr.runtime.commands.health import health
from edgedetr.runtime.commands.output import echo
from edgedetr.runtime.commands.run import run
from edgedetr.runtime.commands.signals import end_by_signal, ended_in_order
from edgedetr.runtime.errors import EdgeDetrError
from edgedetr.runtime.files import STANDARD_OUTPUT, output_to_itself
from edgedetr.runtime.inference.watchdog import is_any_left_alone
from edgedetr.runtime.plugins import names
from edgedetr.runtime.printable import printable, shortened
from edgedetr.runtime.settings import nearest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType


MOST_MESSAGE = 2000
"""Characters of an error's message at most; it may hold a whole argument."""
_PATH = (
    ("data", "data check ROOT", "check labels and images"),
    ("distill", "distill train CONFIG", "train the student"),
    ("export", "export onnx CHECKPOINT", "export it; then fp16 or qdq (INT8)"),
    ("verify", "verify REFERENCE CANDIDATE", "check that it still detects the same"),
    ("report", "report RUN", "compare the students with their teacher"),
    ("package", "package MODEL", "pack and sign it for the vehicle"),
    ("detect", "detect MODEL --images FOLDER", "detect objects in images"),
    ("run", "run MODEL --source CAMERA", "detect objects in a stream"),
)
"""From data to the vehicle: command that must be installed, what to type, what for."""


class StageGroup(click.Group):
    """A group of the ``COMMANDS`` in each stage's ``cli.py``, imported when it is used."""

    def _collected(self) -> dict[str, click.Command]:
        own = {c.name or "": c for c in COMMANDS}
        for stage in _stages():
            own |= {c.name or "": c for c in stage.COMMANDS}
        return own

    # typing.override is Python 3.12's
    def list_commands(self, ctx: click.Context) -> list[str]:  # type: ignore[explicit-override]
        """Name every stage's commands."""
        del ctx
        return sorted(self._collected())

    def format_epilog(  # type: ignore[explicit-override]
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Show the path through the commands that are installed."""
        del ctx
        installed = self._collected()
        steps = [(f"edgedetr {typed}", why) for name, typed, why in _PATH if name in installed]
        with formatter.section("The path"):
            formatter.write_dl(steps, col_max=40)
        with formatter.section("Completion in bash"):
            formatter.write_text('eval "$(_EDGEDETR_COMPLETE=bash_source edgedetr)"')

    def get_command(  # type: ignore[explicit-override]
        self, ctx: click.Context, cmd_name: str
    ) -> click.Command | None:
        """Return a command, or stop with the nearest name."""
        commands = self._collected()
        if cmd_name not in commands:
            ctx.fail(f"no command {cmd_name!r}{nearest(cmd_name, commands)}")
        return commands[cmd_name]


@click.group(cls=StageGroup)
@click.version_option(__version__)
@click.pass_context
def edgedetr(context: click.Context) -> None:
    """Distil, export, calibrate and run compact DETR detectors."""
    converters: dict[str, Callable[[Path], Path]] = {}
    for stage in _stages():
        converters |= getattr(stage, "CONVERTERS", {})
    context.obj = converters


def main() -> None:
    """Run the command line; every known error is one line and a non-zero exit status."""
    _print_names_safely()
    with ExitStack() as stack:
        stack.enter_context(ended_in_order(reloads=sys.argv[1:2] == [run.name]))
        if any(a == STANDARD_OUTPUT or a.endswith(f"={STANDARD_OUTPUT}") for a in sys.argv[1:]):
            stack.enter_context(output_to_itself())
        status = _status()
    if is_any_left_alone():  # it would crash while the interpreter ends
        sys.stdout.flush()
        os._exit(status)
    end_by_signal(status)
    sys.exit(status)


def _status() -> int:
    """Run the command line and return its exit status."""
    try:
        result = edgedetr(standalone_mode=False)
    except SystemExit as ended:
        result = ended.code
    except click.exceptions.NoArgsIsHelpError as error:
        echo(error.format_message())
        result = error.exit_code
    except (click.Abort, click.ClickException, EdgeDetrError, OSError) as error:
        text, result = _known(error)
        echo(f"edgedetr: {shortened(printable(text), MOST_MESSAGE)}", err=True, colour="red")
    return result if isinstance(result, int) else 0


def _known(error: Exception) -> tuple[str, int]:
    """Return the message of a known error, and the exit status."""
    if isinstance(error, click.Abort):
        return "stopped", 130
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, EdgeDetrError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        return f"{error.filename or 'input or output'}: {error.strerror or error}", 1
    raise error


def _print_names_safely() -> None:
    """Escape names in errors and warnings that would control the terminal or not be printable."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort:
        logging.lastResort.setFormatter(_OneLine())


class _OneLine(logging.Formatter):
    # typing.override is Python 3.12's
    def format(self, record: logging.LogRecord) -> str:  # type: ignore[explicit-override]
        return printable(f"edgedetr: {record.getMessage()}")


def _stages() -> list[ModuleType]:
    """Import the ``cli.py`` of every other stage that is installed."""
    stages = [s for s in names("edgedetr") if s != "runtime" and "cli" in names(f"edgedetr.{s}")]
    return [import_module(f"edgedetr.{stage}.cli") for stage in stages]


COMMANDS: tuple[click.Command, ...] = (detect, device, health, run)
