"""Inference backends, one file each; every file offers ``SUFFIXES`` and ``open_session``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from edgedetr.runtime.plugins import find

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.runtime.spec import ModelSpec


class Session(Protocol):
    """A loaded model that owns its input and output buffers until it is closed.

    Attributes:
        spec: The contract of the model.
        images: The input buffer, float32 (B, 3, H, W); the caller writes into it.
    """

    spec: ModelSpec
    images: NDArray[np.float32]

    def infer(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run on ``images``; return logits (B, Q, K) and boxes (B, Q, 4), owned by the session.

        The returned arrays are valid until the next call.
        """
        ...

    def close(self) -> None:
        """Free the buffers; a second call does nothing."""
        ...


class BackendModule(Protocol):
    """What a file in this folder must define."""

    SUFFIXES: tuple[str, ...]

    def open_session(self, path: Path, spec: ModelSpec | None = None) -> Session:
        """Load an artifact; ``spec`` replaces the one stored inside it (foreign models)."""
        ...


def backend(name: str) -> BackendModule:
    """Return the backend module called ``name``."""
    return cast("BackendModule", find(__name__, name))
