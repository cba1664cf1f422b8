"""The GPU's primary context, current only while it is needed."""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_retained: dict[Any, Any] = {}
_lock = threading.Lock()


class PrimaryContext:
    """Makes a device's primary context current on the calling thread inside a ``with`` block.

    It is the context that TensorRT itself and other libraries of the process use; pycuda.autoinit
    would make another one and leave it current on the thread that imported it. Every call pushes
    and pops, so that a session may be opened, run and closed on different threads.

    The context is retained once a process and never released: pycuda releases a primary context
    only by leaving it on the thread's stack, and its destructor, when the process ends, detaches it
    as one of its own, which the driver refuses with a message on standard error.
    """

    def __init__(self, drv: Any, ordinal: int = 0) -> None:  # noqa: ANN401
        """Retain the context.

        Args:
            drv: The module ``pycuda.driver``.
            ordinal: Which of the GPUs that CUDA lists.

        Raises:
            pycuda.driver.Error: If there is no such GPU, or no driver.
        """
        self._drv = drv
        with _lock:
            if (drv, ordinal) not in _retained:
                drv.init()
                _retained[drv, ordinal] = _for_good(drv.Device(ordinal).retain_primary_context())
            self._context = _retained[drv, ordinal]
        device = drv.Device(ordinal)
        self.device_name: str = device.name()
        self.compute_capability = "{}.{}".format(*device.compute_capability())

    def works(self) -> bool:
        """Return whether the context still works.

        After an illegal address, a failed kernel or a GPU that fell off the bus, every further call
        in it fails with the same error until the process ends.
        """
        try:
            with self:
                self._drv.Context.synchronize()
        except self._drv.Error:
            return False
        return True

    def __enter__(self) -> Self:
        self._context.push()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._drv.Context.pop()


def _for_good(context: Any) -> Any:  # noqa: ANN401
    """Return a context whose destructor never runs."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(context))
    return context
