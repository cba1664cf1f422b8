"""Write the folder of a target: templates that are filled in, whole or not at all."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.files import unfinished_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edgedetr.runtime.spec import ModelSpec


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Yield a folder that becomes ``output`` once the block ends without an error.

    Raises:
        UsageError: If ``output`` exists.
    """
    if output.exists():
        raise UsageError(f"{output} exists; remove it or name another folder")
    with unfinished_folder(output) as folder:
        yield folder
        folder.chmod(0o755)
        folder.rename(output)


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files of these names.

    Raises:
        ArtifactError: If the folder has one of them.
    """
    for name, text in texts.items():
        unused(folder / name).write_text(text, encoding="utf-8")


def unused(path: Path) -> Path:
    """Return a path where nothing lies.

    Raises:
        ArtifactError: If a file lies there, which came with the model.
    """
    if path.exists():
        raise ArtifactError(
            f"two files would have the name {path.name}: one of the model's and one of the target; "
            "store the model's external data under another name, and package it again"
        )
    return path


def render(target: str, name: str, values: Mapping[str, object], **filters: object) -> str:
    """Fill in the template ``name`` of a target with ``values``."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name(f"{target}_templates")),
        autoescape=False,  # noqa: S701 - no HTML; every text of the spec passes a filter of quotes
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template(f"{name}.jinja").render(values)


def refuse_antialias(spec: ModelSpec, runner: str) -> None:
    """Stop where frames are resized in a way that ``runner`` cannot do.

    Raises:
        ArtifactError: If the spec has antialias.
    """
    if spec.antialias:
        raise ArtifactError(
            f"the spec has antialias = true, which {runner} cannot do; give it a model that was "
            "trained with antialias = false"
        )
