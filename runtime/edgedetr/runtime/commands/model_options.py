"""The options of every command that runs a model."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from edgedetr.runtime.commands.options import PATH

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say how to open MODEL.

    The command gets them as ``opening``, keywords for `Detector.open` and `Detector.swap`.
    """

    @click.option("--spec", "spec_path", type=PATH, help="TOML spec of a model that carries none.")
    @click.option(
        "--backend",
        help="auto (the fastest), onnxruntime, openvino, ...; what suits MODEL if not given.",
    )
    @click.option("--public-key", type=PATH, help="Key that must have signed a package.")
    @click.option("--allow-unsigned", is_flag=True, help="Open a package that nobody signed.")
    @wraps(command)
    def with_options(
        *arguments: object,
        spec_path: Path | None,
        backend: str | None,
        public_key: Path | None,
        allow_unsigned: bool,
        **others: object,
    ) -> None:
        from edgedetr.runtime.spec import spec_from_toml

        opening: dict[str, Any] = {
            "public_key": public_key,
            "require_signature": not allow_unsigned,
        }
        if backend:
            opening["backend"] = backend
        if spec_path:
            opening["spec"] = spec_from_toml(spec_path)
        command(*arguments, opening=opening, **others)

    return with_options
