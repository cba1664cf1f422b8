"""The options of commands that watch a stream's health."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING

import click

from edgedetr.runtime.commands.options import PATH

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def health_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options; the command gets them as ``watching``, a `HealthOptions`."""

    @click.option("--health", "digest", type=PATH, help="Digest that edgedetr calib digest wrote.")
    @click.option("--clipping", type=PATH, help="Graph that edgedetr export clipping wrote.")
    @click.option("--metrics-port", type=click.IntRange(0, 65535), help="Answer Prometheus here.")
    @click.option("--metrics-address", default="127.0.0.1", show_default=True)
    @wraps(command)
    def with_options(
        *arguments: object,
        digest: Path | None,
        clipping: Path | None,
        metrics_port: int | None,
        metrics_address: str,
        **others: object,
    ) -> None:
        from edgedetr.runtime.health.watch import HealthOptions

        watching = HealthOptions(digest, clipping, metrics_port, metrics_address)
        command(*arguments, watching=watching, **others)

    return with_options
