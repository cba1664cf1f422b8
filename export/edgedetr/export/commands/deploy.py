"""``edgedetr export deploy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgedetr.runtime.commands.options import PATH
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("package", type=PATH)
@click.option("--for", "target", type=click.Choice(["cpp"]), required=True, help="Its language.")
@click.option("-o", "--output", type=PATH, required=True, help="Folder to make.")
@click.option(
    "--public-key", type=PATH, help="Key of the signer; without it only hashes are checked."
)
def deploy(package: Path, target: str, output: Path, public_key: Path | None) -> None:
    """Write the source of a program that runs PACKAGE, and later ones of the same spec.

    docs/deploy-cpp.md says how to build it.
    """
    from edgedetr.export.deploy.cpp import FILES, write_program
    from edgedetr.runtime.package.reader import read_package

    with read_package(package, public_key, require_signature=public_key is not None) as opened:
        write_program(opened.spec, output)
    click.echo(printable(f"{output}: {len(FILES)} files for {target}"))
