"""Open a model only after everything that can be checked about it was checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.runtime.backends import backend as find_backend
from edgedetr.runtime.backends import suited_backend
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.golden import check_answer, check_inputs
from edgedetr.runtime.manifest import manifest_path, read_manifest
from edgedetr.runtime.package import read_package

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.runtime.backends import Session
    from edgedetr.runtime.golden import GoldenAnswer
    from edgedetr.runtime.package import Package
    from edgedetr.runtime.spec import ModelSpec


def open_model(
    path: Path,
    backend: str,
    *,
    spec: ModelSpec | None = None,
    model: str = "",
    public_key: Path | None = None,
    require_signature: bool = True,
) -> Session:
    """Load an ONNX file, an engine, or a package: a folder or a ``.tar``.

    Of a file the manifest beside it must match where there is one. Of a package the signature and
    every byte are checked, then this machine's preprocessing and the model's answer to the golden
    frame. Whether a file fits this version and device is the backend's check.

    Args:
        path: The file or package.
        backend: Name of a file in ``backends/``; empty for what suits the file, and of a package
            its first ONNX model.
        spec: Replaces the spec stored in a file, for foreign models.
        model: Name of a model in a package; its first that the backend runs when empty.
        public_key: PEM file of the key that must have signed a package.
        require_signature: Whether a package must be signed.

    Raises:
        ArtifactError: If it is missing, damaged, changed, of another signer, or of another kind
            than the backend runs.
        GateError: If a package's self-test fails here.
        UnknownNameError: If there is no such backend.
        UsageError: If a package comes without a key to check it, or with a spec.
    """
    if not (path.is_dir() or path.suffix == ".tar"):
        if model or public_key:
            raise UsageError(
                f"{path} is no package, so it has no models to choose and no signature"
            )
        return _open_file(path, backend, spec)
    if spec:
        raise UsageError(f"{path}: a package holds its spec; give none")
    with read_package(path, public_key, require_signature=require_signature) as package:
        check_inputs(package.golden, package.spec)
        model = model or _first_model(package, backend)
        session = _open_file(package.model_path(model), backend, package.spec)
        try:
            check_answer(_golden_answer(package, model), session, package.frame())
        except BaseException:
            session.close()
            raise
    return session


def _open_file(path: Path, backend: str, spec: ModelSpec | None) -> Session:
    backend = backend or suited_backend(path)
    module = find_backend(backend)
    if path.suffix not in module.SUFFIXES:
        wanted = " or ".join(module.SUFFIXES)
        raise ArtifactError(f"{path}: {backend} runs {wanted} files; export the model first")
    if manifest_path(path).is_file():
        read_manifest(path)
    return module.open_session(path, spec)


def _first_model(package: Package, backend: str) -> str:
    names = [m.name for m in package.manifest.models]
    suffixes = find_backend(backend).SUFFIXES if backend else (".onnx",)
    return next((name for name in names if name.endswith(suffixes)), names[0])


def _golden_answer(package: Package, model: str) -> GoldenAnswer:
    """Return what a model must answer; an engine answers as the ONNX of its precision does."""
    models = {m.name: m for m in package.manifest.models}
    twins = [n for n, m in models.items() if m.precision == models[model].precision]
    answers = {a.model: a for a in package.golden.answers}
    for name in (model, *twins):
        if name in answers:
            return answers[name]
    raise ArtifactError(f"{package.path}: no golden answer for {model}; package it again")
