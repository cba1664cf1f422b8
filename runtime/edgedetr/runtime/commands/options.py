"""The parameters that commands share."""

from __future__ import annotations

import math
import os
import shlex
import sys
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.files import is_same_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from edgedetr.runtime.spec import ModelSpec


class _HomePath(click.Path):
    """A path in which ``~`` is the user's home, also where no shell saw it: ``--out=~/found``.

    ``~name`` is a name like any other: the home of somebody else is nowhere to write by a slip.
    """

    # typing.override is Python 3.12's
    def convert(  # type: ignore[explicit-override]
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:  # noqa: ANN401 - as in click
        own = os.fspath(value).split("/", 1)[0] == "~"
        return super().convert(Path(value).expanduser() if own else value, param, ctx)


class _SpecFile(_HomePath):
    """A TOML file that is read into a `ModelSpec`."""

    def convert(  # type: ignore[explicit-override]
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:  # noqa: ANN401 - as in click
        from edgedetr.runtime.spec import spec_from_toml

        path = super().convert(value, param, ctx)
        if ctx:
            ctx.meta[SPEC_FILE] = path
        return spec_from_toml(path)


class Number(click.FloatRange):
    """A number in a range; ``nan`` and ``inf`` are none, which no comparison with a bound finds."""

    # typing.override is Python 3.12's
    def convert(  # type: ignore[explicit-override]
        self, value: float, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:  # noqa: ANN401 - as in click
        """Read a number; stop where it is not finite or out of range."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


PATH = _HomePath(path_type=Path)
"""Type of a parameter that names a file or folder; the code that opens it reports errors."""

READ_SUFFIXES = (".png", ".jpg", ".jpeg", ".txt", ".jsonl")
"""Suffixes of what is read of a folder, images and labels, and of no other command's output."""
SPEC_FILE = "edgedetr.spec"
"""Key in a command's ``Context.meta`` of the file that ``--spec`` was given."""

spec_option = click.option(
    "--spec", type=_SpecFile(path_type=Path), help="TOML spec, for a model that holds none."
)
"""``--spec``: the command gets a `ModelSpec` or None."""

format_option = click.option(
    "--format",
    "kind",
    metavar="NAME",
    help="Format of the data set: kitti, coco, yolo, ...; recognised by default.",
)
"""``--format``: the command gets the name of a data format or None as ``kind``."""

json_option = click.option(
    "--json", "figures", type=PATH, help="Write the figures to this file, too."
)
"""``--json``: the command gets a path or None as ``figures``, for `write_figures`."""

threshold_option = click.option(
    "--threshold", type=Number(0, 1), default=0.3, show_default=True, help="Lowest score."
)


def command_line() -> str:
    """Return the command that is running, as it can be typed again."""
    return shlex.join(["edgedetr", *sys.argv[1:]])


def beside(model: Path, suffix: str) -> Path:
    """Return where a command writes by default: MODEL with another suffix.

    Raises:
        UsageError: If MODEL is a folder that has no name, such as ``.`` and ``/``.
    """
    if not model.name:
        raise UsageError(f"{model} is no file; name a model")
    return model.with_suffix(suffix)


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for opening MODEL.

    The command gets them as ``opening``, keywords for `Detector.open` and `Detector.swap`.
    """

    @spec_option
    @click.option(
        "--backend",
        help="auto (the fastest), onnxruntime, openvino, ...; by default the one that suits MODEL.",
    )
    @click.option("--public-key", type=PATH, help="Key that must have signed a package.")
    @click.option("--allow-unsigned", is_flag=True, help="Open a package without a signature.")
    @click.option(
        "--state",
        type=PATH,
        help="Folder that keeps the newest counter; older packages are refused.",
    )
    @wraps(command)
    def with_options(
        *arguments: object,
        backend: str | None,
        public_key: Path | None,
        allow_unsigned: bool,
        state: Path | None,
        spec: ModelSpec | None,
        **others: object,
    ) -> None:
        opening: dict[str, Any] = {
            "public_key": public_key,
            "require_signature": not allow_unsigned,
        }
        if state:
            opening["state"] = state
        if backend:
            opening["backend"] = backend
        if spec:
            opening["spec"] = spec
        command(*arguments, opening=opening, **others)

    return with_options


def health_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for watching a stream's health.

    The command gets them as ``watching``, a `HealthOptions`.
    """

    @click.option("--health", "digest", type=PATH, help="Digest written by edgedetr calib digest.")
    @click.option("--clipping", type=PATH, help="Graph written by edgedetr export clipping.")
    @click.option(
        "--metrics-port", type=click.IntRange(0, 65535), help="Port on which Prometheus reads."
    )
    @click.option(
        "--metrics-address",
        default="127.0.0.1",
        show_default=True,
        help="Network interface of the port.",
    )
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


def require_apart(
    outputs: Iterable[Path | None], inputs: Iterable[str | os.PathLike[str] | None]
) -> None:
    """Refuse to write over what the same command reads, by whatever name, before it does any work.

    A file given as ``--spec`` is such an input, too, and so are images and labels in a folder that
    any parameter names.

    Raises:
        UsageError: If an output is an input.
    """
    context = click.get_current_context(silent=True)
    spec = context.meta.get(SPEC_FILE) if context else None
    named = context.params.values() if context else ()
    folders = [path.resolve() for path in named if isinstance(path, Path) and path.is_dir()]
    there = [path for path in (*inputs, spec) if path is not None]
    for output in outputs:
        if output is None:
            continue
        is_read = output.suffix.lower() in READ_SUFFIXES and output.is_file()
        if is_same_file(output, *there) or (
            is_read and any(output.resolve().is_relative_to(folder) for folder in folders)
        ):
            raise UsageError(f"{output} is an input of the same command; choose another output")


def ask_passphrase() -> str:
    """Prompt for the passphrase of a key on a terminal; return an empty one elsewhere."""
    if not sys.stdin.isatty():
        return ""
    answer: str = click.prompt("Passphrase", hide_input=True, err=True)
    return answer
