"""``edgedetr package``."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from edgedetr.runtime.commands.options import (
    PATH,
    ask_passphrase,
    beside,
    command_line,
    json_option,
    require_apart,
    spec_option,
)
from edgedetr.runtime.commands.output import echo, write_figures
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.runtime.package.reader import Package
    from edgedetr.runtime.spec import ModelSpec


class PackageGroup(click.Group):
    """A group whose default command is ``create``."""

    # typing.override is Python 3.12's
    def parse_args(  # type: ignore[explicit-override]
        self, ctx: click.Context, args: list[str]
    ) -> list[str]:
        """Read ``package MODEL.onnx ...`` as ``package create MODEL.onnx ...``."""
        if args and args[0] != "--help" and (args[0][0] == "-" or args[0].endswith(".onnx")):
            args = ["create", *args]
        return super().parse_args(ctx, args)


policy_option = click.option(
    "--policy", type=PATH, help="TOML: what a fleet demands of every package."
)
"""``--policy``: the command gets its path or None."""


@click.group(cls=PackageGroup)
def package() -> None:
    """Pack a model for the vehicle; `package MODEL.onnx` means `package create MODEL.onnx`."""


@package.command()
@click.argument("models", type=PATH, nargs=-1, required=True)
@click.option("-o", "--output", type=PATH, help="Folder or .tar. Default: MODEL with .tar.")
@click.option("--key", type=PATH, help="Private key to sign with; unsigned if not given.")
@click.option(
    "--parity",
    type=PATH,
    multiple=True,
    help="Report of edgedetr verify --json; repeatable.",
)
@click.option(
    "--reference",
    "references",
    type=PATH,
    multiple=True,
    help="FP32 ONNX model that reports start from, as imported if it has no report; repeatable.",
)
@click.option("--calibration", type=PATH, help="Stats of calib collect for an INT8 model.")
@click.option("--engine", "engines", type=PATH, multiple=True, help="Engine of MODEL; repeatable.")
@click.option("--report", type=PATH, help="The report.json of edgedetr report.")
@click.option(
    "--device-check",
    "device_checks",
    type=PATH,
    multiple=True,
    help="Record of edgedetr device check, with its signature beside it; repeatable.",
)
@click.option("--license", "licenses", type=PATH, multiple=True, help="Licence text; repeatable.")
@spec_option
@click.option("--golden-frame", type=PATH, help="Image for the self-test; generated if not given.")
@click.option(
    "--counter",
    type=click.IntRange(0, (1 << 63) - 1),
    help="Vehicles refuse a lower one than they have accepted. Default: seconds since 1970, UTC.",
)
@policy_option
@json_option
def create(  # noqa: PLR0913, PLR0917 - one argument per option
    models: tuple[Path, ...],
    output: Path | None,
    key: Path | None,
    parity: tuple[Path, ...],
    references: tuple[Path, ...],
    calibration: Path | None,
    engines: tuple[Path, ...],
    report: Path | None,
    device_checks: tuple[Path, ...],
    licenses: tuple[Path, ...],
    spec: ModelSpec | None,
    golden_frame: Path | None,
    counter: int | None,
    policy: Path | None,
    figures: Path | None,
) -> None:
    """Pack ONNX MODELS, of which the vehicle runs the first; exit 1 if a gate fails.

    Every model needs a chain of reports from a checkpoint, or from an FP32 model that others made:
    one without a spec, or named by --reference.
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
        device_checks=device_checks,
        licenses=licenses,
        counter=_seconds_since_1970() if counter is None else counter,
        policy=policy,
    )
    output = output or beside(models[0], ".tar")
    require_apart([output, figures], [*contents.inputs, key, golden_frame])
    if golden_frame:
        contents = replace(contents, frame=read_image(golden_frame))
    made = run(contents, output, key, command_line(), ask_passphrase)
    for gate in made.gates:
        echo(gate, err=True)
    size_mib = sum(f.size for f in made.files) / 2**20
    held = {"files": len(made.files), "size_mib": size_mib, "counter": made.counter}
    proof = {"gates": made.gates, "signed_by": made.signed_by}
    write_figures(figures, {"package": str(output), **held, **proof})
    signed = f"signed by {made.signed_by[:16]}" if key else "NOT SIGNED: vehicles refuse it"
    size = f"{len(made.files)} files, {size_mib:.2f} MiB, counter {made.counter}"
    echo(printable(f"{output}: {size}, {signed}"))


@package.command()
@click.argument("key", type=PATH)
@click.option("--passphrase", is_flag=True, help="Encrypt the private key with a passphrase.")
@click.option("--ecdsa", is_flag=True, help="Create an ECDSA key (P-256) for package sign instead.")
def keygen(key: Path, passphrase: bool, ecdsa: bool) -> None:
    """Create an Ed25519 key pair: the private KEY, which stays secret, and KEY.pub.

    The passphrase is read from EDGEDETR_KEY_PASSPHRASE if that is set.
    """
    from edgedetr.export.package.keys import keygen as run
    from edgedetr.export.package.keys import public_path
    from edgedetr.runtime.package.private_key import PASSPHRASE_VARIABLE

    secret = os.environ.get(PASSPHRASE_VARIABLE, "")
    if passphrase and not secret:
        secret = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    name = run(key, secret, ecdsa=ecdsa)
    echo(printable(f"{key} and {public_path(key)}: {name[:16]}"))


@package.command()
@click.argument("path", metavar="PACKAGE", type=PATH)
@click.option("--key", type=PATH, required=True, help="Key of keygen --ecdsa.")
@click.option("-o", "--output", type=PATH, help="Default: PACKAGE with .sig after its name.")
def sign(path: Path, key: Path, output: Path | None) -> None:
    """Sign a finished PACKAGE for `model_signing verify key` (OpenSSF Model Signing) as well.

    The vehicle does not need it: it checks the package's own signature.
    """
    from edgedetr.export.package.model_signing import sign_package

    output = output or beside(path, f"{path.suffix}.sig")
    sign_package(path, key, output, ask_passphrase)
    echo(printable(f"{output}: signature of {path} by OpenSSF Model Signing"))


@package.command()
@click.argument("path", metavar="PACKAGE", type=PATH)
@click.option(
    "--public-key", type=PATH, help="Key of the signer; without it only hashes are checked."
)
@click.option("--state", type=PATH, help="Folder with the lowest counter that is accepted.")
@policy_option
@json_option
def verify(
    path: Path,
    public_key: Path | None,
    state: Path | None,
    policy: Path | None,
    figures: Path | None,
) -> None:
    """Check PACKAGE: its signature, every file, and that this machine computes the same.

    With --policy its models and reports pass the gates once more, by the rules of that file.
    """
    from edgedetr.runtime.backends.onnxruntime import open_session
    from edgedetr.runtime.package.counter import CounterKeeper
    from edgedetr.runtime.package.reader import read_package
    from edgedetr.runtime.self_test import check_answer, check_inputs

    with read_package(path, public_key, require_signature=public_key is not None) as opened:
        if state:
            counter = opened.manifest.counter
            CounterKeeper(state).check(counter, path, is_trusted=opened.is_trusted)
        opened.check_manifests()
        exact = check_inputs(opened.golden, opened.spec)
        for model in opened.manifest.models if opened.is_trusted else ():
            if model.kind == "onnx":
                session = open_session(opened.model_path(model.name), opened.spec)
                check_answer(opened.golden_answer(model.name), session, opened.frame())
                session.close()
        gates = _gates_again(opened, policy)
        count, counter = len(opened.manifest.files), opened.manifest.counter
    preprocessing = "bit-exact" if exact else "equal to within one grey level"
    found = {"files": count, "counter": counter, "preprocessing": preprocessing, "gates": gates}
    write_figures(figures, {"package": str(path), "signed": public_key is not None, **found})
    echo(
        printable(
            f"{path}: {count} files match its manifest; counter {counter}; preprocessing here is "
            f"{preprocessing}"
        )
    )
    echo("".join(f"{printable(gate)}\n" for gate in gates), nl=False)
    if public_key:
        valid = "The signature is valid, and each ONNX model finds its golden detections here."
        echo(valid, colour="green")
    else:
        echo("Neither signature nor models were checked; give --public-key", err=True)


def _gates_again(opened: Package, policy: Path | None) -> tuple[str, ...]:
    """Hold a package to a policy where there is one; return what its gates say."""
    if policy is None:
        return ()
    from edgedetr.export.package.recheck import recheck

    return recheck(opened, policy)


def _seconds_since_1970() -> int:
    return int(datetime.now(timezone.utc).timestamp())
