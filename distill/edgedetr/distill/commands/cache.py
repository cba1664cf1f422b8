"""The command that fills a teacher cache, and the option that lets a run read one."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edgedetr.runtime.commands.options import PATH
from edgedetr.runtime.commands.output import echo
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.printable import printable

cache_option = click.option(
    "--cache",
    "folder",
    type=PATH,
    metavar="DIR",
    help="Teacher cache of the run, as teacher_cache.path.",
)


def with_cache(overrides: tuple[str, ...], folder: Path | None) -> tuple[str, ...]:
    """Add the setting that an option ``--cache`` stands for to those of ``--set``."""
    return overrides if folder is None else (*overrides, f"teacher_cache.path={folder}")


@click.command()
@click.argument("config", type=PATH)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting of CONFIG."
)
@click.option(
    "--cache",
    "folder",
    type=PATH,
    metavar="DIR",
    help="Folder of the answers.",
    show_default="teacher_cache.path, or runs/CONFIG-teacher",
)
def cache(config: Path, overrides: tuple[str, ...], folder: Path | None) -> None:
    """Store the teacher's answers for every picture that CONFIG trains on, for runs to read.

    CONFIG is a TOML file or the name of a recipe. Says first what that takes. What is there stays:
    a build that was killed goes on.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "edgedetr distill cache runs in one process; start it without a launcher, or let "
            "training fill the cache"
        )
    from edgedetr.distill.config import load_config
    from edgedetr.distill.recipe import cache as run
    from edgedetr.distill.recipes import recipe_path

    config = recipe_path(config)
    settings = load_config(config, with_cache(overrides, folder))
    if not settings.teacher_cache.path:
        place = Path("runs") / f"{config.stem}-teacher"
        settings = load_config(config, with_cache(overrides, place))
    run(settings, lambda line: echo(printable(line)))
