"""What every backend provides: a module that opens sessions, and a session that runs a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.runtime.spec import ModelSpec


class Session(Protocol):
    """A loaded model that owns its input and output buffers until it is closed.

    It serves one thread at a time, which need not be the one that opened it. A session may also
    have ``feed(image)``, see `edgedetr.runtime.cuda.engine_session`: it preprocesses a frame on the
    device, and the next `infer` runs on that instead of on ``images``.

    Attributes:
        runs_on: Library and device, for a reader; with ``auto`` also what was measured.
    """

    runs_on: str

    @property
    def spec(self) -> ModelSpec:
        """The contract of the model."""
        ...

    @property
    def images(self) -> NDArray[np.float32]:
        """The input buffer, float32 (B, 3, H, W); the caller writes into it until `close`."""
        ...

    def infer(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run on ``images``; return logits (B, Q, K) and boxes (B, Q, 4), owned by the session.

        The returned arrays are valid until the next call.

        Raises:
            ValueError: If the session is closed.
            BackendError: If the device or its library fails.
        """
        ...

    def close(self) -> None:
        """Free the buffers; a second call does nothing."""
        ...


class BackendModule(Protocol):
    """What a file in this folder must define."""

    SUFFIXES: tuple[str, ...]

    def open_session(
        self, path: Path, spec: ModelSpec | None = None, *, steady: bool = False
    ) -> Session:
        """Load an artifact.

        Args:
            path: The artifact.
            spec: Replaces the one stored inside it (foreign models).
            steady: Whether threads of the CPU that wait sleep instead of spinning: slower where
                the machine is idle, and much faster where it is not.
        """
        ...
