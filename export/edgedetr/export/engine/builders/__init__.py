"""The libraries that build engines, one file each, named as the package that it imports."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.plugins import find, names

if TYPE_CHECKING:
    from edgedetr.export.engine.options import EngineOptions


class BuilderModule(Protocol):
    """What a file of this folder holds.

    Attributes:
        INSTALL: Where and how to install the package.
        OLDEST: The first version that is supported, (major, minor).
    """

    INSTALL: str
    OLDEST: tuple[int, int]

    def check(self, options: EngineOptions) -> None:
        """Refuse what the library cannot do.

        Raises:
            UsageError: With the reason and what to do instead.
        """

    def targets(self, trt: Any, options: EngineOptions) -> tuple[str, ...]:  # noqa: ANN401
        """Return the devices that the engine will run on.

        Returns:
            ``sm_86`` for compute capability 8.6 alone, ``sm_80+`` for every GPU of 8.0 and later
            but Tegra's.

        Raises:
            UsageError: If the library cannot build for a requested device.
            ArtifactError: If it needs a device to build on and there is none.
        """

    def configure(self, trt: Any, config: Any, options: EngineOptions) -> None:  # noqa: ANN401
        """Set what only this library has in its builder configuration."""


def load_builder(name: str | None = None) -> tuple[BuilderModule, Any]:
    """Import a builder.

    Args:
        name: Name of a file of this folder; the first whose package imports when None.

    Returns:
        The file, and the package.

    Raises:
        UsageError: If no builder has that name.
        ArtifactError: If the package is not installed, does not load, or is too old.
    """
    problems = []
    for candidate in [name] if name else names(__name__):
        module = cast("BuilderModule", find(__name__, candidate))
        try:
            trt = import_module(candidate)
        except (ImportError, OSError) as error:
            problems.append(
                f"{candidate} cannot be imported ({error}); install it {module.INSTALL}"
            )
            continue
        _check_version(candidate, trt.__version__, module.OLDEST)
        return module, trt
    raise ArtifactError("; ".join(problems))


def version_of(trt: Any) -> str:  # noqa: ANN401
    """Name a library and its version, as a manifest does: ``tensorrt==10.3.0``."""
    return f"{trt.__name__}=={trt.__version__}"


def _check_version(name: str, version: str, oldest: tuple[int, int]) -> None:
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < oldest:
        raise UsageError(
            f"{name} {version} found, {oldest[0]}.{oldest[1]} or later wanted; its builder cannot "
            "be held to the types of the graph"
        )
