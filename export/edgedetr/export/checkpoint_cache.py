"""Keep the exported form of a checkpoint in the user's cache, so that a checkpoint runs as it is.

An entry is a folder ``NAME-KEY`` with the ONNX file and its manifest. The key stands for the bytes
of the checkpoint and for the versions of what exports it; a folder appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from edgedetr.runtime.commands.output import echo
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.hub import cache_folder
from edgedetr.runtime.printable import printable

PACKAGES = ("edgedetr", "torch", "transformers", "onnx", "onnxsim")
"""What an exported model depends on; named here because to import `to_onnx` takes seconds."""


def exported(checkpoint: Path) -> Path:
    """Return a checkpoint as ONNX: out of the cache, or exported there first.

    An entry that does not match its manifest is made again. What is exported is said on standard
    error, in a line.

    Raises:
        ArtifactError: If the checkpoint is damaged.
        GateError: If the exported model does not find what the checkpoint finds.
        UsageError: If what exports is not installed.
    """
    from edgedetr.runtime.files import UNFINISHED, sha256

    hashed = sha256(checkpoint)
    entry = cache_folder("exported") / f"{checkpoint.stem}-{_key(hashed)}"
    output = entry / f"{checkpoint.stem}.onnx"
    if _is_sound(output, hashed):
        return output
    echo(printable(f"edgedetr: {checkpoint} is exported to {output}, once"), err=True)
    entry.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(UNFINISHED, ".", entry.parent) as folder:
        _export(checkpoint, Path(folder) / "made" / output.name)
        if not _is_sound(output, hashed):  # somebody else may have been faster
            shutil.rmtree(entry, ignore_errors=True)
            (Path(folder) / "made").rename(entry)
    return output


def imported_and_exported(source: Path) -> Path:
    """Return a name of the hub, or a folder of transformers, as ONNX.

    Raises:
        ArtifactError: If it cannot be imported.
        GateError: If the exported model does not find what the imported one finds.
        UsageError: If what imports or exports is not installed.
    """
    _versions()
    from edgedetr.distill.weights.imported_cache import imported

    return exported(imported(source))


def _key(hashed: str) -> str:
    return hashlib.sha256("\n".join([hashed, *_versions()]).encode()).hexdigest()[:16]


def _versions() -> tuple[str, ...]:
    from edgedetr.runtime.manifest import versions_of

    try:
        return versions_of(PACKAGES)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"a checkpoint needs {error.name} to be exported: pip install "
            "'edgedetr[distill,export]'"
        ) from error


def _is_sound(output: Path, hashed: str) -> bool:
    from edgedetr.runtime.manifest import manifest_path, read_manifest

    if not manifest_path(output).is_file():
        return False
    try:
        return hashed in {parent.sha256 for parent in read_manifest(output).parents}
    except ArtifactError:
        return False


def _export(checkpoint: Path, output: Path) -> None:
    from edgedetr.export.to_onnx import export_onnx
    from edgedetr.runtime.commands.options import command_line

    output.parent.mkdir()
    export_onnx(checkpoint, output, command=command_line())
