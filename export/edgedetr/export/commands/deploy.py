"""``edgedetr export deploy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgedetr.runtime.commands.options import PATH
from edgedetr.runtime.commands.output import echo
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.runtime.package.reader import Package

TARGETS = ("cpp", "deepstream", "triton", "isaac_ros")


@click.command()
@click.argument("package", type=PATH)
@click.option("--for", "target", type=click.Choice(TARGETS), required=True, help="What runs it.")
@click.option("-o", "--output", type=PATH, required=True, help="Folder to make.")
@click.option(
    "--public-key", type=PATH, help="Key of the signer; without it only hashes are checked."
)
@click.option("--model", default="", help="Model of PACKAGE for a server; default: its first.")
def deploy(package: Path, target: str, output: Path, public_key: Path | None, model: str) -> None:
    """Write what another program needs to run PACKAGE: a C++ program, or a server's files.

    docs/deploy-cpp.md says how to build the first, docs/deploy-servers.md what the others get.
    """
    from edgedetr.runtime.package.reader import read_package

    with read_package(package, public_key, require_signature=public_key is not None) as opened:
        _write(opened, target, output, model)
    count = sum(path.is_file() for path in output.rglob("*"))
    echo(printable(f"{output}: {count} files for {target}"))


def _write(package: Package, target: str, output: Path, model: str) -> None:
    if target == "cpp":
        from edgedetr.export.deploy.cpp import write_program

        write_program(package.spec, output)
    elif target == "deepstream":
        from edgedetr.export.deploy.deepstream import write_pipeline

        write_pipeline(package, output, model)
    elif target == "triton":
        from edgedetr.export.deploy.triton import write_repository

        write_repository(package, output, model)
    else:
        from edgedetr.export.deploy.isaac_ros import write_graph

        write_graph(package, output, model)
