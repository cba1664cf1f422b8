"""Commands of the benchmarks: bench, report."""

from __future__ import annotations

import click


@click.group()
def bench() -> None:
    """Measure latency."""


COMMANDS: tuple[click.Command, ...] = (bench,)
