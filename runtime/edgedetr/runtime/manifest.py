"""The manifest of an artifact: its kind, its origin, and the hashes that link it to its parents.

A package has a manifest of its own: `edgedetr.runtime.package.format.PackageManifest`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import ArtifactError, SettingsError
from edgedetr.runtime.files import read_text, sha256, write_text
from edgedetr.runtime.settings import settings_from_dict
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable


@dataclass(frozen=True)
class Parent:
    """A file that an artifact was made from, by name and SHA-256."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The record that lies beside an artifact as ``<artifact>.manifest.json``.

    Attributes:
        artifact: File name of the artifact.
        sha256: Hash of the artifact's bytes.
        kind: ``checkpoint``, ``onnx``, ``qdq`` or ``engine``.
        command: What made it.
        spec: The model's contract.
        versions: ``name==version`` of the packages that made it.
        parents: The files that it was made from.
        summary: One line for a reader, for example the accuracy that was measured.
        targets: The GPUs that an engine runs on: ``sm_87`` is compute capability 8.7 alone,
            ``sm_80+`` is 8.0 and later. The builder and its version are in ``versions``, with
            ``>=`` where later versions run the engine too. A ``qdq`` file names the target that it
            was quantized for.
    """

    artifact: str
    sha256: str
    kind: str
    command: str
    spec: ModelSpec
    versions: tuple[str, ...] = ()
    parents: tuple[Parent, ...] = ()
    summary: str = ""
    targets: tuple[str, ...] = ()


def versions_of(packages: Iterable[str]) -> tuple[str, ...]:
    """Name the installed version of each package, as ``name==version``."""
    return tuple(f"{name}=={version(name)}" for name in packages)


def manifest_path(artifact: str | os.PathLike[str]) -> Path:
    """Return where the manifest of an artifact lies."""
    artifact = Path(artifact)
    return artifact.with_name(artifact.name + ".manifest.json")


def write_manifest(  # noqa: PLR0913 - the fields of a manifest
    artifact: str | os.PathLike[str],
    *,
    kind: str,
    command: str,
    spec: ModelSpec,
    versions: Iterable[str] = (),
    parents: Iterable[Path] = (),
    summary: str = "",
    targets: Iterable[str] = (),
) -> Manifest:
    """Hash an artifact and its parents and write the manifest beside it."""
    artifact = Path(artifact)
    manifest = Manifest(
        artifact=artifact.name,
        sha256=sha256(artifact),
        kind=kind,
        command=command,
        spec=spec,
        versions=tuple(versions),
        parents=tuple(Parent(p.name, sha256(p)) for p in parents),
        summary=summary,
        targets=tuple(targets),
    )
    write_text(manifest_path(artifact), json.dumps(asdict(manifest), indent=2) + "\n")
    return manifest


def read_manifest(artifact: str | os.PathLike[str]) -> Manifest:
    """Read the manifest beside an artifact and verify the artifact's hash.

    Raises:
        ArtifactError: If artifact or manifest is missing or damaged, or they do not match.
    """
    artifact = Path(artifact)
    path = manifest_path(artifact)
    for needed in (artifact, path):
        if not needed.is_file():
            raise ArtifactError(f"{needed} is missing; make the artifact again")
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not a manifest: {error}") from error
    manifest = manifest_from_json(text, str(path))
    found = sha256(artifact)
    if found != manifest.sha256:
        raise ArtifactError(
            f"{artifact} does not match its manifest: its SHA-256 is {found[:12]}..., the manifest "
            f"says {manifest.sha256[:12]}...; one of them was changed, make the artifact again"
        )
    return manifest


def manifest_from_json(text: str | bytes, source: str) -> Manifest:
    """Read a manifest; ``source`` names it in messages.

    Raises:
        ArtifactError: If it is none.
    """
    try:
        return settings_from_dict(Manifest, json.loads(text), source)
    except (ValueError, RecursionError, SettingsError) as error:
        raise ArtifactError(f"{source}: not a manifest: {error}") from error
