"""Keep imported models in the user's cache, so that a name of the hub is a checkpoint.

An entry is a folder ``NAME-KEY`` with the checkpoint and its manifest. The key stands for the bytes
of the model's files and for the version of EdgeDETR; a folder appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from tqdm import tqdm

from edgedetr.distill.weights.importing import import_model, source_files
from edgedetr.distill.weights.source_backbone import refuse_backbone
from edgedetr.distill.weights.source_place import source_place
from edgedetr.distill.weights.torchvision_detector import detector_name
from edgedetr.runtime import __version__
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import UNFINISHED, sha256
from edgedetr.runtime.hub import TORCHVISION, cache_folder, is_foreign
from edgedetr.runtime.manifest import manifest_path, read_manifest


def local_checkpoint(source: str | os.PathLike[str]) -> Path:
    """Return the checkpoint of a source: the file itself, or what was imported of a foreign model.

    Args:
        source: A file, a name of the hub or a folder of transformers.

    Raises:
        ArtifactError: If a foreign model cannot be imported.
    """
    text = os.fspath(source)
    refuse_backbone(text)
    return imported(text) if is_foreign(text) or detector_name(text) else Path(text)


def imported(source: str | os.PathLike[str]) -> Path:
    """Return a foreign model as a checkpoint: out of the cache, or imported there first.

    An entry that does not match its manifest is made again. What is imported is said in a line.

    Raises:
        ArtifactError: If it cannot be imported.
    """
    refuse_backbone(os.fspath(source))
    name = Path(os.path.abspath(source)).name  # noqa: PTH100 - a link keeps its own name
    name = name.removeprefix(TORCHVISION)
    folder = source_place(os.fspath(source))
    hashed = "\n".join([__version__, *(sha256(path) for path in source_files(folder))])
    key = hashlib.sha256(hashed.encode()).hexdigest()[:16]
    entry = cache_folder("imported") / f"{name}-{key}"
    output = entry / f"{name}.safetensors"
    if _is_sound(output):
        return output
    tqdm.write(f"{source} is imported to {output}, once")
    entry.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(UNFINISHED, ".", entry.parent) as temporary:
        made = Path(temporary) / "made"
        command = f"edgedetr import {source}"
        import_model(folder, made / output.name, name=os.fspath(source), command=command)
        if not _is_sound(output):  # somebody else may have been faster
            shutil.rmtree(entry, ignore_errors=True)
            made.rename(entry)
    return output


def _is_sound(output: Path) -> bool:
    if not manifest_path(output).is_file():
        return False
    try:
        read_manifest(output)
    except ArtifactError:
        return False
    return True
