"""Open a model once everything about it is checked."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedetr.runtime.backend_lookup import backend as find_backend
from edgedetr.runtime.backend_lookup import suited_backend
from edgedetr.runtime.backends.auto import fastest_file
from edgedetr.runtime.bundled import named_detector
from edgedetr.runtime.cuda.preflight import builder_of
from edgedetr.runtime.errors import (
    ArtifactError,
    BackendError,
    EdgeDetrError,
    StuckError,
    UsageError,
)
from edgedetr.runtime.inference.loaded_model import OPENING_LIMIT_S
from edgedetr.runtime.inference.watchdog import Watchdog
from edgedetr.runtime.manifest import manifest_from_json, manifest_path, read_manifest
from edgedetr.runtime.package.counter import CounterKeeper
from edgedetr.runtime.package.reader import read_package
from edgedetr.runtime.self_test import check_answer, check_inputs

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from edgedetr.runtime.package.format import PackedModel
    from edgedetr.runtime.package.reader import Package
    from edgedetr.runtime.session import Session
    from edgedetr.runtime.spec import ModelSpec

AUTO = "auto"

_LOG = logging.getLogger(__name__)


def open_model(  # noqa: PLR0913 - what there is to know of a model
    path: str | os.PathLike[str],
    backend: str,
    *,
    spec: ModelSpec | None = None,
    model: str = "",
    public_key: str | os.PathLike[str] | None = None,
    require_signature: bool = True,
    state: str | os.PathLike[str] | CounterKeeper | None = None,
    steady: bool = False,
) -> Session:
    """Load an ONNX file, an engine, or a package: a folder or a ``.tar``.

    Of a file the manifest beside it must match where there is one. Of a package the signature and
    every byte are checked, then this machine's preprocessing and the model's answer to the golden
    frame. Whether a file fits this version and device is the backend's check.

    Unless a model or a backend for ONNX is named, a package is served by its first engine that was
    built for this machine, and by its first ONNX model where there is none. Where that is an INT8
    model that is no faster than a float one here, ``auto`` takes the faster. An engine that fits is
    not replaced where it fails the self-test. The log and ``runs_on`` name what was chosen.

    Args:
        path: The file or package, or the name of a detector that comes with the whole package.
        backend: Name of a file in ``backends/``; empty for what suits the file.
        spec: Replaces the spec stored in a file, for foreign models.
        model: Name of a model in a package; chosen when empty.
        public_key: PEM file of the key that must have signed a package.
        require_signature: Whether a package must be signed.
        state: Folder with the lowest counter of a package that is accepted, or its keeper.
        steady: Whether threads of the CPU that wait sleep instead of spinning.

    Raises:
        ArtifactError: If it is missing, damaged, changed, of another signer or kind, or older than
            ``state`` accepts.
        GateError: If a package's self-test fails here.
        UnknownNameError: If there is no such backend.
        UsageError: If a package comes without a key to check it, or with a spec.
    """
    path = named_detector(Path(path))
    keeper = state if isinstance(state, CounterKeeper) else CounterKeeper(state)
    if not (path.is_dir() or path.suffix == ".tar"):
        _refuse(path, model, public_key, keeper.state)
        session = _open_file(path, backend, spec, steady=steady)
        _LOG.info("%s: %s", path, session.runs_on)
        return session
    if spec:
        raise UsageError(f"{path}: a package holds its own spec; leave out --spec")
    with read_package(path, public_key, require_signature=require_signature) as package:
        keeper.check(package.manifest.counter, path, is_trusted=package.is_trusted)
        check_inputs(package.golden, package.spec)
        session, model = _open_packed(package, model, backend, steady=steady)
        try:
            check_answer(package.golden_answer(model), session, package.frame())
        except BaseException:
            session.close()
            raise
    session.runs_on += f"; {model}"
    _LOG.info("%s: %s", path, session.runs_on)
    return session


def _refuse(path: Path, *of_packages: object) -> None:
    """Stop where something was given that only packages have."""
    if any(of_packages):
        raise UsageError(
            f"{path} is not a package; leave out the model, the public key and the state"
        )


def open_in_time(
    path: str | os.PathLike[str],
    backend: str,
    **how: Any,  # noqa: ANN401 - as in `open_model`
) -> Session:
    """Do as `open_model` on a thread of its own, so that one that never opens is abandoned.

    Raises:
        StuckError: If it is not open after `OPENING_LIMIT_S`.
    """
    watchdog = Watchdog(OPENING_LIMIT_S)
    try:
        return watchdog.run(partial(open_model, path, backend, **how))
    except StuckError as error:
        if not watchdog.is_stuck:
            raise
        raise StuckError(
            f"{path} did not open within {OPENING_LIMIT_S:g} s; export it again"
        ) from error
    finally:
        watchdog.close()


def _open_file(path: Path, backend: str, spec: ModelSpec | None, *, steady: bool) -> Session:
    backend = backend or suited_backend(path)
    module = find_backend(backend)
    if path.suffix not in module.SUFFIXES:
        wanted = " or ".join(module.SUFFIXES)
        raise ArtifactError(f"{path}: {backend} runs {wanted} files; export the model first")
    if manifest_path(path).is_file():
        read_manifest(path)
    return module.open_session(path, spec, steady=steady)


def _open_packed(
    package: Package, model: str, backend: str, *, steady: bool
) -> tuple[Session, str]:
    """Open a model of a package, and return its name; ``auto`` opens an INT8 one if it pays."""
    chosen = model or _chosen_model(package, backend)
    wanted = [chosen]
    if backend == AUTO and not model:
        wanted += _in_place_of(chosen, package.manifest.models)
    sessions: dict[str, Session] = {}
    try:
        for name in wanted:
            path = package.model_path(name)
            sessions[name] = _open_file(path, backend, package.spec, steady=steady)
        chosen = fastest_file(sessions)
    except BaseException:
        for session in sessions.values():
            session.close()
        raise
    return sessions[chosen], chosen


def _in_place_of(chosen: str, models: Sequence[PackedModel]) -> list[str]:
    """Name the float ONNX models that may run in place of an INT8 one that is no faster."""
    graphs = {m.name: m.precision for m in models if m.kind == "onnx"}
    if graphs.get(chosen) != "int8":
        return []
    return [name for name, precision in graphs.items() if precision != "int8"]


def _chosen_model(package: Package, backend: str) -> str:
    """Return the first engine that fits this machine, or else the first ONNX model.

    Raises:
        ArtifactError: If an engine's manifest is damaged, or there are only engines and the first
            one does not fit; likewise `BackendError` and `UsageError`.
    """
    suffixes = find_backend(backend or AUTO).SUFFIXES
    models = [m for m in package.manifest.models if m.name.endswith(suffixes)]
    misfits: list[EdgeDetrError] = []
    for engine in _engines(models):
        misfit = _misfit(package, engine, backend)
        if misfit is None:
            return engine.name
        misfits.append(misfit)
    graphs = [m.name for m in models if m.kind == "onnx"]
    if misfits and not graphs:
        raise misfits[0]
    if misfits:
        reasons = "; ".join(map(str, misfits))
        _LOG.warning("%s: no engine fits, running %s: %s", package.path, graphs[0], reasons)
    return (graphs or [package.manifest.models[0].name])[0]


def _engines(models: Sequence[PackedModel]) -> list[PackedModel]:
    """Return the engines in the order of what they were built from: the first is the one to run."""
    names = [m.name for m in models]
    engines = [m for m in models if m.kind == "engine"]
    return sorted(engines, key=lambda m: names.index(m.source) if m.source in names else 0)


def _misfit(package: Package, engine: PackedModel, backend: str) -> EdgeDetrError | None:
    """Return why an engine does not fit this machine, or the backend where one is named."""
    from edgedetr.runtime.cuda.engine_session import check_fit

    path = Path(engine.name)
    name = manifest_path(path).as_posix()
    manifest = manifest_from_json(package.read(name), f"{package.path}: {name}")
    library = builder_of(manifest, path) if backend in ("", AUTO) else backend
    try:
        check_fit(manifest, path, library)
    except (ArtifactError, BackendError, UsageError) as error:
        return error
    return None
