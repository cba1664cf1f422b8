"""``edgedetr health``."""

from __future__ import annotations

import click


@click.command()
@click.argument("url")
def health(url: str) -> None:
    """Ask a running detector how it is, at URL such as http://127.0.0.1:9464/metrics.

    Exit status 1 where it has failed or does not answer: the health check of a container.
    """
    from edgedetr.runtime.health.metrics import check

    click.echo(check(url).name)
