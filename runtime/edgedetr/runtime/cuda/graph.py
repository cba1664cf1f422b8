"""Record what a stream does as a CUDA graph, and replay it with one call.

pycuda has no graphs, and cuda-python moved its modules between CUDA 12 and 13, so these few calls
go to the driver's own library, which is there wherever pycuda works. A pycuda stream's ``handle``
is the driver's.
"""

from __future__ import annotations

import contextlib
import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_ulonglong, c_void_p
from typing import TYPE_CHECKING, Any

from edgedetr.runtime.cuda.device import LIBRARY

if TYPE_CHECKING:
    from collections.abc import Callable

_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    "cuGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_ulonglong),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphDestroy": (c_void_p,),
    "cuGraphExecDestroy": (c_void_p,),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}
_THREAD_LOCAL = 1  # other threads may allocate meanwhile, for example to load the next model


class GraphError(Exception):
    """The driver could not record, make or launch a graph; the message says why."""


class Graph:
    """Recorded work; it reads and writes the addresses that it was recorded with."""

    def __init__(self, library: Any, executable: c_void_p) -> None:  # noqa: ANN401
        self._library = library
        self._executable: c_void_p | None = executable

    def launch(self, stream: int) -> None:
        """Do the recorded work once, when the stream gets there.

        Args:
            stream: Handle of a stream of the same context.

        Raises:
            GraphError: If the driver refuses.
        """
        _call(self._library, "cuGraphLaunch", self._executable, stream)

    def close(self) -> None:
        """Free the graph; a second call does nothing."""
        executable, self._executable = self._executable, None
        if executable is not None:
            _call(self._library, "cuGraphExecDestroy", executable)


def record(stream: int, work: Callable[[], object]) -> Graph:
    """Record what ``work`` gives a stream to do, without doing it.

    The stream is usable afterwards, also when this fails.

    Args:
        stream: Handle of a stream, not the default one.
        work: Enqueues on that stream and nothing else: no allocation, no synchronising. It must
            have run before, because libraries allocate when they run for the first time.

    Raises:
        GraphError: If ``work`` fails, or does what cannot be recorded.
    """
    library = _load()
    _call(library, "cuStreamBeginCapture_v2", stream, _THREAD_LOCAL)
    recorded = c_void_p()
    try:
        work()
    except Exception as error:
        with contextlib.suppress(GraphError):  # it only says once more that the work failed
            _call(library, "cuStreamEndCapture", stream, byref(recorded))
        _destroy(library, recorded)
        raise GraphError(str(error)) from error
    _call(library, "cuStreamEndCapture", stream, byref(recorded))
    executable = c_void_p()
    try:
        _call(library, "cuGraphInstantiateWithFlags", byref(executable), recorded, 0)
    finally:
        _destroy(library, recorded)
    return Graph(library, executable)


def _load() -> Any:  # noqa: ANN401
    """Return the driver's library with its signatures declared."""
    try:
        library = ctypes.CDLL(LIBRARY)
        for name, arguments in _SIGNATURES.items():
            getattr(library, name).argtypes = arguments
    except (OSError, AttributeError) as error:  # AttributeError: a driver older than CUDA 11.4
        raise GraphError(f"the CUDA driver has no graphs: {error}") from error
    return library


def _destroy(library: Any, recorded: c_void_p) -> None:  # noqa: ANN401
    if recorded.value:
        _call(library, "cuGraphDestroy", recorded)


def _call(library: Any, name: str, *arguments: object) -> None:  # noqa: ANN401
    status = getattr(library, name)(*arguments)
    if status:
        text = c_char_p()
        library.cuGetErrorString(status, byref(text))
        raise GraphError(f"{name}: {(text.value or b'unknown').decode()} ({status})")
