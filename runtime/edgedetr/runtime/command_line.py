"""What every command of ``edgedetr`` shares."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

PATH = click.Path(path_type=Path)
"""Type of a parameter that names a file or folder; whoever opens it says what is wrong."""


def command_line() -> str:
    """Return the command that is running, as it can be typed again."""
    return shlex.join(["edgedetr", *sys.argv[1:]])
