"""What commands write to a terminal, and the figures that they print as JSON."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import click

from edgedetr.runtime.files import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

Colour = Literal["green", "yellow", "red"]

VERDICT_COLOURS: dict[str, Colour] = {"passed": "green", "undecided": "yellow", "failed": "red"}
"""The colour of a gate's verdict."""


def echo(text: str, *, err: bool = False, nl: bool = True, colour: Colour | None = None) -> None:
    r"""Write text whatever names stand in it: what is not printable is escaped, lines stay.

    Colours are for terminals: there are none in a file or a pipe, nor where ``NO_COLOR`` is set or
    ``TERM`` is ``dumb``.

    >>> echo("a\x1b[31m.png\n  b", colour="red")
    a\x1b[31m.png
      b
    """
    plain = "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
    if colour and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        plain = click.style(plain, fg=colour)  # echo takes it off where there is no terminal
    click.echo(plain, err=err, nl=nl)


@contextmanager
def progress(length: int, label: str) -> Iterator[Callable[[], None]]:
    """Show how far long work is on standard error, where that is a terminal.

    Args:
        length: How many steps there are.
        label: What the work is.

    Yields:
        What to call after each step.
    """
    if not sys.stderr.isatty():
        yield lambda: None  # click would still write the label
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield lambda: bar.update(1)


def write_figures(path: Path | None, figures: Mapping[str, object]) -> None:
    """Write what a command printed as JSON; nothing where no file was named."""
    if path:
        write_text(path, json.dumps(figures, indent=2) + "\n")
