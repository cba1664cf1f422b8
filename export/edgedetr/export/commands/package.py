"""``edgedetr package``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from edgedetr.runtime.commands.options import PATH, command_line, spec_option

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.runtime.spec import ModelSpec


class PackageGroup(click.Group):
    """A group that takes a model where the name of a command is missing."""

    # typing.override is Python 3.12's
    def parse_args(  # type: ignore[explicit-override]
        self, ctx: click.Context, args: list[str]
    ) -> list[str]:
        """Read ``package MODEL.onnx ...`` as ``package create MODEL.onnx ...``."""
        if args and args[0] != "--help" and (args[0][0] == "-" or args[0].endswith(".onnx")):
            args = ["create", *args]
        return super().parse_args(ctx, args)


@click.group(cls=PackageGroup)
def package() -> None:
    """Pack a model that passed its gates for the vehicle; `package MODEL.onnx` creates."""


@package.command()
@click.argument("models", type=PATH, nargs=-1, required=True)
@click.option("-o", "--output", type=PATH, help="Folder or .tar; default: MODEL as .tar.")
@click.option("--key", type=PATH, help="Private key that signs; not signed if not given.")
@click.option(
    "--parity",
    type=PATH,
    multiple=True,
    help="Report of edgedetr verify --json; as many as there are.",
)
@click.option(
    "--reference", "references", type=PATH, multiple=True, help="FP32 ONNX where the reports start."
)
@click.option("--calibration", type=PATH, help="What calib collect wrote for INT8.")
@click.option("--engine", "engines", type=PATH, multiple=True, help="Engine built from MODEL.")
@click.option("--report", type=PATH, help="The report.json of edgedetr report.")
@click.option("--license", "licenses", type=PATH, multiple=True, help="Licence text to pack.")
@spec_option
@click.option("--golden-frame", type=PATH, help="Image of the self-test; made up if not given.")
def create(  # noqa: PLR0913, PLR0917 - one argument per option
    models: tuple[Path, ...],
    output: Path | None,
    key: Path | None,
    parity: tuple[Path, ...],
    references: tuple[Path, ...],
    calibration: Path | None,
    engines: tuple[Path, ...],
    report: Path | None,
    licenses: tuple[Path, ...],
    spec: ModelSpec | None,
    golden_frame: Path | None,
) -> None:
    """Pack ONNX MODELS, the first of them to be run; exit 1 where a gate did not hold.

    An FP16 or INT8 model needs reports that lead to it from a checkpoint or an FP32 model.
    """
    from edgedetr.export.package.write import Contents
    from edgedetr.export.package.write import package as run
    from edgedetr.runtime.images import read_image

    contents = Contents(
        models=models,
        spec=spec,
        engines=engines,
        parity=parity,
        references=references,
        calibration=calibration,
        report=report,
        licenses=licenses,
        frame=read_image(golden_frame) if golden_frame else None,
    )
    output = output or models[0].with_suffix(".tar")
    made = run(contents, output, key, command_line(), _ask)
    for gate in made.gates:
        click.echo(gate, err=True)
    size_mib = sum(f.size for f in made.files) / 2**20
    signed = f"signed by {made.signed_by[:16]}" if key else "NOT SIGNED: vehicles refuse it"
    click.echo(f"{output}: {len(made.files)} files, {size_mib:.2f} MiB, {signed}")


@package.command()
@click.argument("key", type=PATH)
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase for the private key.")
def keygen(key: Path, passphrase: bool) -> None:
    """Make an Ed25519 pair: KEY, which signs and stays secret, and KEY.pub.

    The passphrase is read from EDGEDETR_KEY_PASSPHRASE where that is set.
    """
    from edgedetr.export.package.keys import PASSPHRASE_VARIABLE, public_path
    from edgedetr.export.package.keys import keygen as run

    secret = os.environ.get(PASSPHRASE_VARIABLE, "")
    if passphrase and not secret:
        secret = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    name = run(key, secret)
    click.echo(f"{key} and {public_path(key)}: {name[:16]}")


@package.command()
@click.argument("path", metavar="PACKAGE", type=PATH)
@click.option("--public-key", type=PATH, help="Key of the maker; only hashes are checked without.")
def verify(path: Path, public_key: Path | None) -> None:
    """Check PACKAGE: signature, every byte, and that this machine computes the same."""
    from edgedetr.runtime.backends.onnxruntime import open_session
    from edgedetr.runtime.package.reader import read_package
    from edgedetr.runtime.self_test import check_answer, check_inputs

    with read_package(path, public_key, require_signature=public_key is not None) as opened:
        opened.check_manifests()
        exact = check_inputs(opened.golden, opened.spec)
        for model in opened.manifest.models if opened.is_trusted else ():
            if model.kind == "onnx":
                session = open_session(opened.model_path(model.name), opened.spec)
                check_answer(opened.golden_answer(model.name), session, opened.frame())
                session.close()
        count = len(opened.manifest.files)
    preprocessing = "equal to the bit" if exact else "equal within a grey level"
    click.echo(
        f"{path}: {count} files are what its manifest says; preprocessing here is {preprocessing}"
    )
    if public_key:
        click.echo("The signature is good, and each ONNX model finds its golden detections here.")
    else:
        click.echo("Who made it was not checked, and no model was run: give --public-key", err=True)


def _ask() -> str:
    """Ask for a passphrase where somebody sits there."""
    if not sys.stdin.isatty():
        return ""
    answer: str = click.prompt("Passphrase", hide_input=True, err=True)
    return answer
