"""Convert a model that no backend runs, with what the installed stages can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.hub import is_foreign

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Converters = Mapping[str, Callable[[Path], Path]]

CHECKPOINT = ".safetensors"
FOREIGN = "hub"
"""Key of what turns a name of the hub, or a folder of transformers, into a file that runs."""


def runnable(model: Path, converters: Converters) -> Path:
    """Return a file that a backend runs: the model itself, or its conversion.

    Args:
        model: What the user named.
        converters: What turns a file of a suffix, or what is `FOREIGN`, into one that runs; the
            stages' ``cli.py`` have them as ``CONVERTERS``.

    Raises:
        ArtifactError: If it is a checkpoint and no stage is there that exports one.
    """
    if model.suffix in converters and model.is_file():
        return converters[model.suffix](model)
    if FOREIGN in converters and is_foreign(model):
        return converters[FOREIGN](model)
    if model.suffix == CHECKPOINT and CHECKPOINT not in converters:
        raise ArtifactError(
            f"{model} is a checkpoint, which this installation cannot export; run edgedetr export "
            f"onnx {model} where edgedetr is installed with the extras export and distill"
        )
    return model
