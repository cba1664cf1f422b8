"""Open a package: every byte checked before any of it is used."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import numpy as np

from edgedetr.runtime.errors import ArtifactError, SettingsError, UsageError
from edgedetr.runtime.manifest import manifest_from_json, manifest_path
from edgedetr.runtime.package.archive import open_archive
from edgedetr.runtime.package.format import (
    FRAME,
    GOLDEN,
    MANIFEST,
    SIGNATURE,
    SPEC,
    PackageManifest,
)
from edgedetr.runtime.package.signing import (
    SIGNATURE_BYTES,
    fingerprint,
    is_signed_by,
    load_public_key,
)
from edgedetr.runtime.self_test import Golden, GoldenAnswer
from edgedetr.runtime.settings import settings_from_dict
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from types import TracebackType

    from numpy.typing import NDArray
    from typing_extensions import Self

    from edgedetr.runtime.package.archive import Archive
    from edgedetr.runtime.package.format import PackedFile, PackedModel

T = TypeVar("T")

MAX_JSON_BYTES = 1 << 20
"""Largest JSON file that is read."""
MAX_FRAME_BYTES = 128 << 20
"""Largest golden frame."""
MAX_INPUT_PIXELS = 1 << 22
"""Largest input of a network, in pixels; checking its preprocessing takes some 150 bytes for each.
"""


def read_package(
    path: str | os.PathLike[str],
    public_key: str | os.PathLike[str] | None = None,
    *,
    require_signature: bool = True,
) -> Package:
    """Open a package once every byte of it is checked: signature first, then names, sizes, hashes.

    Memory stays constant, nothing is extracted, and there are limits on everything that is read.

    Args:
        path: The folder or ``.tar``.
        public_key: PEM file of the key that the maker's signature must fit.
        require_signature: Whether to refuse a package that is not signed. A key that is given is
            used either way, where there is a signature.

    Returns:
        The package; close it to remove what was copied out of it.

    Raises:
        UsageError: If a signature is required and no key is given.
        ArtifactError: If the package is missing, damaged, changed, of a newer format, unsigned, or
            signed with another key.
    """
    if require_signature and public_key is None:
        raise UsageError(f"{path}: name the public key of the maker: --public-key KEY.pub")
    archive = open_archive(Path(path))
    data = _read_limited(archive, MANIFEST, MAX_JSON_BYTES)
    is_trusted = public_key is not None and _check_signature(
        archive, data, Path(public_key), required=require_signature
    )
    manifest = _parse(PackageManifest, data, f"{path}: {MANIFEST}")
    _check_names(archive, manifest)
    for file in manifest.files:
        for _ in _checked_blocks(archive, file):
            pass
    return Package(archive, manifest, is_trusted=is_trusted)


class Package:
    """An opened package; `read_package` makes it.

    Attributes:
        path: The folder or tar.
        manifest: What it holds.
        spec: The contract of its models.
        golden: What they must answer on any machine.
        is_trusted: Whether the signature fits the key that the caller named.
    """

    def __init__(self, archive: Archive, manifest: PackageManifest, *, is_trusted: bool) -> None:
        self.path = archive.path
        self.manifest = manifest
        self.is_trusted = is_trusted
        self._archive = archive
        self._files = {f.name: f for f in manifest.files}
        self._workplace: Path | None = None
        self.spec = _parse(ModelSpec, self.read(SPEC), f"{self.path}: {SPEC}")
        height, width = self.spec.input_hw
        if height * width > MAX_INPUT_PIXELS:
            raise ArtifactError(
                f"{self.path}: an input of {width} x {height} is too large; wanted at most "
                f"{MAX_INPUT_PIXELS} pixels"
            )
        self.golden = _parse(Golden, self.read(GOLDEN), f"{self.path}: {GOLDEN}")

    def read(self, name: str, limit: int = MAX_JSON_BYTES) -> bytes:
        """Return the bytes of a file, checked once more.

        Raises:
            ArtifactError: If there is no such file, it is larger than ``limit`` or was changed.
        """
        if name not in self._files:
            raise ArtifactError(f"{self.path} holds no {name}; it has {', '.join(self._files)}")
        _check_size(self._archive, name, limit)
        return b"".join(_checked_blocks(self._archive, self._files[name]))

    def frame(self) -> NDArray[np.uint8]:
        """Return the frame of the self-test, RGB, uint8 (H, W, 3), read-only.

        Raises:
            ArtifactError: If it is not of the size that the golden answers are for.
        """
        height, width = self.golden.frame_hw
        data, head = self.read(FRAME, MAX_FRAME_BYTES), ppm_header(self.golden.frame_hw)
        if not data.startswith(head) or len(data) != len(head) + 3 * height * width:
            raise ArtifactError(f"{self.path}: {FRAME} is not of {width} x {height} pixels")
        return np.frombuffer(data, np.uint8, offset=len(head)).reshape(height, width, 3)

    def golden_answer(self, name: str) -> GoldenAnswer:
        """Return what a model must answer; an engine that of the ONNX model it was built from.

        Raises:
            ArtifactError: If there is no such model or answer.
        """
        source = self._model(name).source or name
        for answer in self.golden.answers:
            if answer.model == source:
                return answer
        raise ArtifactError(f"{self.path} has no golden answer of {source}; package it again")

    def check_manifests(self) -> None:
        """Stop unless each model is the one that the manifest beside it was written for.

        Raises:
            ArtifactError: If a manifest is none, or of another file.
        """
        for model in self.manifest.models:
            name = manifest_path(Path(model.name)).as_posix()
            if name not in model.companions:
                continue
            wanted = manifest_from_json(self.read(name), f"{self.path}: {name}").sha256
            if self._files[model.name].sha256 != wanted:
                raise ArtifactError(
                    f"{self.path}: {model.name} does not match its manifest, which says "
                    f"{wanted[:12]}...; package it again"
                )

    def model_path(self, name: str = "") -> Path:
        """Return a model as a file that a backend can open, with its companions beside it.

        In a folder that is the file itself. Out of a tar it is copied into a private folder, which
        `close` removes, and hashed on the way.

        Args:
            name: An ONNX model or engine, as in the manifest; the first when empty.

        Raises:
            ArtifactError: If there is no such model, or it was changed since the package was read.
        """
        model = self._model(name) if name else self.manifest.models[0]
        if self._archive.is_folder:
            return self._archive.members[model.name].path
        if self._workplace is None:
            self._workplace = Path(tempfile.mkdtemp(prefix="edgedetr-"))
        for part in (model.name, *model.companions):
            place = self._workplace / part
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                file.writelines(_checked_blocks(self._archive, self._files[part]))
        return self._workplace / model.name

    def close(self) -> None:
        """Remove what was copied out of a tar; a second call does nothing."""
        if self._workplace is not None:
            shutil.rmtree(self._workplace, ignore_errors=True)
            self._workplace = None

    def _model(self, name: str) -> PackedModel:
        known = {m.name: m for m in self.manifest.models}
        if name not in known:
            raise ArtifactError(f"{self.path} holds no model {name}; it has {', '.join(known)}")
        return known[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def ppm_header(hw: tuple[int, int]) -> bytes:
    """Return what stands before the RGB bytes of an image in a binary PPM file."""
    return b"P6\n%d %d\n255\n" % (hw[1], hw[0])


def _check_signature(archive: Archive, data: bytes, public_key: Path, *, required: bool) -> bool:
    """Return whether a package is signed; stop where the signature does not fit."""
    if SIGNATURE not in archive.members and not required:
        return False
    key = load_public_key(public_key)
    if SIGNATURE not in archive.members:
        raise ArtifactError(f"{archive.path} is not signed; make it with edgedetr package --key")
    signature = _read_limited(archive, SIGNATURE, SIGNATURE_BYTES)
    if not is_signed_by(key, signature, data):
        raise ArtifactError(
            f"{archive.path}: {SIGNATURE} is no signature of its {MANIFEST} by the key "
            f"{fingerprint(key)[:16]}: one of them was changed, or another key signed it; do not "
            "use the package"
        )
    return True


def _check_names(archive: Archive, manifest: PackageManifest) -> None:
    """Stop unless the archive holds what the manifest lists, no more and no less."""
    wanted = {f.name for f in manifest.files} | {MANIFEST}
    if manifest.signed_by:
        wanted.add(SIGNATURE)
    for name in sorted(wanted ^ archive.members.keys()):
        if name in wanted:
            raise ArtifactError(f"{archive.path}: {name} is missing; fetch the package again")
        raise ArtifactError(
            f"{archive.path}: {name} is not in its manifest, so it was added later; do not use the "
            "package"
        )


def _checked_blocks(archive: Archive, file: PackedFile) -> Iterator[bytes]:
    """Read a file and stop at its end unless it is what the manifest says."""
    size = archive.members[file.name].size
    if size != file.size:
        _refuse_changed(archive, file.name, f"it has {size} bytes, its manifest says {file.size}")
    digest = hashlib.sha256()
    for block in archive.blocks(file.name):
        digest.update(block)
        yield block
    if digest.hexdigest() != file.sha256:
        found = f"its SHA-256 is {digest.hexdigest()[:12]}..."
        _refuse_changed(archive, file.name, f"{found}, its manifest says {file.sha256[:12]}...")


def _refuse_changed(archive: Archive, name: str, how: str) -> NoReturn:
    raise ArtifactError(f"{archive.path}: {name} was changed: {how}; do not use the package")


def _check_size(archive: Archive, name: str, limit: int) -> None:
    if name in archive.members and archive.members[name].size > limit:
        raise ArtifactError(f"{archive.path}: {name} is larger than {limit} bytes")


def _read_limited(archive: Archive, name: str, limit: int) -> bytes:
    _check_size(archive, name, limit)
    return b"".join(archive.blocks(name))


def _parse(kind: type[T], data: bytes, source: str) -> T:
    """Read JSON of numbers that are finite into a frozen dataclass."""
    try:
        values = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
        return settings_from_dict(kind, values, source)
    except SettingsError as error:
        raise ArtifactError(f"{error}; written by another version, or changed") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{source}: not readable: {error}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")
