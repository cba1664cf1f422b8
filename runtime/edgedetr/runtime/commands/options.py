"""What every command of ``edgedetr`` shares."""

from __future__ import annotations

import math
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class _HomePath(click.Path):
    """A path in which ``~`` is the user's home, also where no shell saw it: ``--out=~/found``."""

    # typing.override is Python 3.12's
    def convert(  # type: ignore[explicit-override]
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:  # noqa: ANN401 - as in click
        return super().convert(os.path.expanduser(value), param, ctx)  # noqa: PTH111 - keeps ~nobody


class Number(click.FloatRange):
    """A number in a range; ``nan`` and ``inf`` are none, which no comparison with a bound finds."""

    # typing.override is Python 3.12's
    def convert(  # type: ignore[explicit-override]
        self, value: float, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:  # noqa: ANN401 - as in click
        """Read a number; stop where it is not finite or out of range."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


PATH = _HomePath(path_type=Path)
"""Type of a parameter that names a file or folder; whoever opens it says what is wrong."""


def command_line() -> str:
    """Return the command that is running, as it can be typed again."""
    return shlex.join(["edgedetr", *sys.argv[1:]])


def require_apart(outputs: Iterable[Path | None], inputs: Iterable[Path | None]) -> None:
    """Refuse to write over what the same command reads, by whatever name, before it does any work.

    Raises:
        UsageError: If an output is an input.
    """
    there = [path for path in inputs if path is not None and path.is_file()]
    for output in outputs:
        if output is not None and output.is_file() and any(map(output.samefile, there)):
            raise UsageError(f"{output} is an input of the same command; choose another output")
