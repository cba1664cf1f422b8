"""The engines of a file or package on this device: those that are there, and those to be built."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING

from edgedetr.runtime.cuda.engine_session import check_fit
from edgedetr.runtime.cuda.preflight import builder_of
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.files import sha256
from edgedetr.runtime.manifest import read_manifest
from edgedetr.runtime.package.reader import read_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Build = Callable[[Path, Path, Path], None]

NO_BUILDER = (
    "no engine was built: this installation has no edgedetr export engine; build it where the "
    "extra export is installed, on a device of this kind"
)


@dataclass(frozen=True)
class Model:
    """A model to check.

    Attributes:
        name: Its name in the package, or that of the file.
        path: An ONNX file or an engine.
        source: Of an engine, the ONNX file that it was built from; None where that is not there.
        precision: What the package says that it is; empty for a file.
        beside: Of a package, the SHA-256 of each file that belongs to it, by name: weights in
            other files, its manifest.
    """

    name: str
    path: Path
    source: Path | None = None
    precision: str = ""
    beside: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Engine:
    """An engine on this device.

    Attributes:
        path: The engine.
        source: The ONNX file that it was built from; None where that is not there.
        build_s: How long it was built, in seconds; None where it was there before.
    """

    path: Path
    source: Path | None
    build_s: float | None


@contextmanager
def models_of(
    path: Path, public_key: Path | None = None, *, require_signature: bool = True
) -> Iterator[list[Model]]:
    """List the models of a file, or of a package that is checked first and open meanwhile.

    Raises:
        ArtifactError: If the file or package is missing, damaged, changed or of another signer.
        UsageError: If a package comes without a key, or a file with one.
    """
    if path.is_dir() or path.suffix == ".tar":
        with read_package(path, public_key, require_signature=require_signature) as package:
            hashes = {f.name: f.sha256 for f in package.manifest.files}
            yield [
                Model(
                    m.name,
                    package.model_path(m.name),
                    package.model_path(m.source) if m.source else None,
                    m.precision,
                    {name: hashes[name] for name in m.companions},
                )
                for m in package.manifest.models
            ]
        return
    if public_key:
        raise UsageError(f"{path} is not a package; leave out the public key")
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; name an ONNX file, an engine or a package")
    yield [Model(path.name, path, _source(path) if path.suffix == ".engine" else None)]


def engine_of(model: Model, state: Path, build: Build | None) -> Engine:
    """Return the engine of a model, which is built where it is an ONNX file.

    Args:
        model: The model.
        state: Folder that keeps engines and the timings of kernels; a second check builds nothing.
        build: Builds an engine from an ONNX file; its arguments are that, the engine and the timing
            cache. None where no builder is installed.

    Raises:
        ArtifactError: If there is no builder, or it fails.
    """
    if model.path.suffix == ".engine":
        return Engine(model.path, model.source, None)
    made = state / f"{model.path.stem}.{sha256(model.path)[:12]}.engine"
    if _fits(made):
        return Engine(made, model.path, None)
    if build is None:
        raise ArtifactError(f"{model.name}: {NO_BUILDER}")
    state.mkdir(parents=True, exist_ok=True)
    start_ns = perf_counter_ns()
    build(model.path, made, state / "timing.cache")
    return Engine(made, model.path, (perf_counter_ns() - start_ns) / 1e9)


def onnx_of(model: Model) -> Path:
    """Return the ONNX file of a model, also of an engine.

    Raises:
        ArtifactError: If it is an engine and that is not there.
    """
    path = model.source if model.path.suffix == ".engine" else model.path
    if path is None:
        raise ArtifactError(
            f"{model.name}: the ONNX file that it was built from is not beside it; a rehearsal "
            "runs that"
        )
    return path


def _fits(engine: Path) -> bool:
    """Return whether an engine from an earlier check is there and still for this machine."""
    if not engine.is_file():
        return False
    try:
        manifest = read_manifest(engine)
        check_fit(manifest, engine, builder_of(manifest, engine))
    except ArtifactError:
        return False
    return True


def _source(engine: Path) -> Path | None:
    """Return the ONNX file beside an engine that it was built from, by name and hash."""
    for parent in read_manifest(engine).parents:
        path = engine.with_name(parent.name)
        if path.suffix == ".onnx" and path.is_file() and sha256(path) == parent.sha256:
            return path
    return None
