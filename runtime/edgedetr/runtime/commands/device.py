"""``edgedetr device``."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from edgedetr.runtime.commands.options import (
    PATH,
    Number,
    ask_passphrase,
    command_line,
    require_apart,
)
from edgedetr.runtime.commands.output import echo, progress
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.runtime.cuda.device import CudaDevice
    from edgedetr.runtime.device_check.engines import Build

PROGRAM = "from edgedetr.runtime.cli import main; main()"
"""Runs the command line in a process of its own."""


@click.group()
def device() -> None:
    """Check what models do on this device."""


@device.command()
@click.argument("model", type=PATH)
@click.option("--images", type=PATH, required=True, help="Folder of PNG or JPEG images.")
@click.option("-o", "--output", type=PATH, required=True, help="Where to write the record.")
@click.option("--public-key", type=PATH, help="Key that must have signed a package.")
@click.option("--allow-unsigned", is_flag=True, help="Open a package without a signature.")
@click.option(
    "--engines", type=PATH, help="Folder that keeps built engines; default: engines beside OUTPUT."
)
@click.option("--frames", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--rate", "rate_hz", type=Number(0.001, 1000), default=30.0, show_default=True)
@click.option("--key", type=PATH, help="Private key to sign the record with, as OUTPUT.sig.")
@click.option(
    "--simulate",
    is_flag=True,
    help="Rehearse without a GPU, in ONNX Runtime; no gate accepts such a record.",
)
@click.pass_context
def check(  # noqa: PLR0913, PLR0917 - one argument per option
    context: click.Context,
    model: Path,
    images: Path,
    output: Path,
    public_key: Path | None,
    allow_unsigned: bool,
    engines: Path | None,
    frames: int,
    rate_hz: float,
    key: Path | None,
    simulate: bool,
) -> None:
    """Run MODEL's engines on this device's GPU and record what works and how fast.

    MODEL is an ONNX file, an engine or a package; engines of ONNX files are built where edgedetr
    export engine is installed. FRAMES are timed one after another, and as many at RATE per second.
    The exit status is 1 if an engine must not ship, or there is no GPU.
    """
    from edgedetr.runtime.device_check.checking import Place, check_model
    from edgedetr.runtime.device_check.engines import models_of
    from edgedetr.runtime.device_check.measure import Pace
    from edgedetr.runtime.device_check.model_check import describe
    from edgedetr.runtime.device_check.record import make_record, write_record
    from edgedetr.runtime.device_check.system import temperatures_c
    from edgedetr.runtime.errors import GateError
    from edgedetr.runtime.images import list_images, read_frames
    from edgedetr.runtime.package.detached_signature import signature_path
    from edgedetr.runtime.package.private_key import load_private_key

    require_apart([output, signature_path(output)], [model, public_key, key])
    gpu = None if simulate else _gpu()
    signer = load_private_key(key, ask_passphrase) if key else None
    state = engines or output.absolute().parent / "engines"
    pace, before_c = Pace(frames, rate_hz), temperatures_c()
    with models_of(model, public_key, require_signature=not allow_unsigned) as models:
        pictures = read_frames(list_images(images))
        length = 2 * frames * len(models)
        with progress(length, "device check") as step:
            one_check = partial(
                check_model,
                frames=pictures,
                pace=pace,
                place=Place(state, _builder(context), simulate),
                on_frame=step,
            )
            checks = [one_check(m) for m in models]
    found = make_record(model, gpu, checks, pace, before_c, command_line())
    write_record(found, output, signer)
    for one in found.models:
        echo(printable(describe(one)))
    if found.verdict != "passed":
        place = gpu.name if gpu else "this CPU"
        raise GateError(f"{model}: device check failed on {place}; {output} has the reasons")


def _gpu() -> CudaDevice:
    from edgedetr.runtime.cuda.device import find_device
    from edgedetr.runtime.errors import BackendError

    found = find_device()
    if found is None:
        raise BackendError(
            "CUDA finds no GPU here; check the device that the model is for, or rehearse with "
            "--simulate"
        )
    return found


def _builder(context: click.Context) -> Build | None:
    """Return what builds engines, where the command line that is installed has it."""
    root = context.find_root()
    collected = root.command
    if not isinstance(collected, click.Group) or "export" not in collected.list_commands(root):
        return None
    export = collected.get_command(root, "export")
    has_engine = isinstance(export, click.Group) and "engine" in export.list_commands(root)
    return build_in_process if has_engine else None


def build_in_process(model: Path, engine: Path, timing_cache: Path) -> None:
    """Build an engine in another process, whose builder leaves nothing in this one's memory.

    Raises:
        ArtifactError: If it fails; its own message is on standard error.
    """
    from edgedetr.runtime.errors import ArtifactError

    arguments = [model, "-o", engine, "--timing-cache", timing_cache]
    command = [sys.executable, "-c", PROGRAM, "export", "engine", *map(str, arguments)]
    done = subprocess.run(command, stdout=2, check=False)  # noqa: S603
    if done.returncode:
        raise ArtifactError(
            f"{model.name}: edgedetr export engine ended with status {done.returncode}; its "
            f"message is above, and the builder's log may lie at {engine}.log"
        )
