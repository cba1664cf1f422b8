"""Import a detector of another library: it becomes a checkpoint with the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgedetr.distill.model import IMPORTED, Architecture, Model, new_model
from edgedetr.distill.weights.checkpoint import save_model
from edgedetr.distill.weights.source_config import CONFIG, read_source_config
from edgedetr.distill.weights.source_file import read_file
from edgedetr.distill.weights.source_preprocessor import PREPROCESSOR, read_spec
from edgedetr.distill.weights.source_tensors import read_tensors, weight_files
from edgedetr.distill.weights.timm_backbone import in_transformers_names
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    import os


def import_model(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    query_fade: bool = False,
    input_hw: tuple[int, int] | None = None,
    name: str = "",
    command: str = "",
) -> Model:
    """Write the model of a transformers folder as a checkpoint, with its manifest.

    Args:
        folder: With ``config.json``, ``preprocessor_config.json`` and the weights as safetensors,
            or a safetensors file with the names of RT-DETRv4.
        output: The ``.safetensors`` file.
        query_fade: Whether its predictions get the query fade, which changes its answers.
        input_hw: Height and width of its input, in pixels; None takes the preprocessor's.
        name: What the manifest calls the model; its folder's name if empty.
        command: What made it, for the manifest.

    Returns:
        The model, in evaluation mode, on the CPU.

    Raises:
        ArtifactError: If a file is missing, damaged or of another model.
    """
    folder, output = Path(folder), Path(output)
    model = read_model(folder, query_fade=query_fade, input_hw=input_hw)
    summary = f"imported from {name or folder.name}; query fade {'on' if query_fade else 'off'}"
    save_model(output, model, command=command, parents=source_files(folder), summary=summary)
    return model


def read_model(
    folder: Path, *, query_fade: bool = False, input_hw: tuple[int, int] | None = None
) -> Model:
    """Read the model of a transformers folder or of RT-DETRv4's own file, see `import_model`."""
    if folder.is_file():
        return read_file(folder, query_fade=query_fade, input_hw=input_hw)
    source = read_source_config(folder)
    spec = read_spec(folder, source.class_names, input_hw)
    architecture = Architecture(source.values, source.rows, source.class_rows, query_fade)
    tensors = in_transformers_names(read_tensors(folder))
    try:
        model = new_model(source.family, IMPORTED, spec, architecture, tensors)
    except ArtifactError as error:
        raise ArtifactError(f"{folder}: {error}") from error
    return model


def source_files(folder: Path) -> list[Path]:
    """Return the files that decide what is imported.

    Raises:
        ArtifactError: If one is missing.
    """
    if folder.is_file():
        return [path for path in (folder, folder.parent / CONFIG) if path.is_file()]
    files = [folder / CONFIG, folder / PREPROCESSOR, *weight_files(folder)]
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise ArtifactError(f"{missing[0]} is missing; bring it as well")
    return files
