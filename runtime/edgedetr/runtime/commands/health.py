"""``edgedetr health``."""

from __future__ import annotations

import click

from edgedetr.runtime.commands.output import echo


@click.command()
@click.argument("url")
def health(url: str) -> None:
    """Show the health of a running detector at URL, such as http://127.0.0.1:9464/metrics.

    The exit status is 1 if it has failed or does not respond: use it as a container's health check.
    """
    from edgedetr.runtime.health.metrics import check

    echo(check(url).name)
