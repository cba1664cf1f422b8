"""Pairs of pinned host memory and device memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray


class Buffer:
    """An array in pinned host memory and its twin on the device, valid as long as the context.

    Attributes:
        host: The array on the host. A reference that is held after `free` keeps the memory alive.
        address: Where the twin lies on the device.
    """

    host: NDArray[Any]

    def __init__(self, drv: Any, shape: Sequence[int], dtype: DTypeLike = np.float32) -> None:  # noqa: ANN401
        """Allocate both, the host's filled with zeros.

        Raises:
            pycuda.driver.Error: If memory runs out.
        """
        self._drv = drv
        host = drv.pagelocked_empty(tuple(shape), dtype)
        try:
            self._device = drv.mem_alloc(host.nbytes)
        except BaseException:
            del host  # or the error's traceback keeps it
            raise
        host[...] = 0
        self.host = host
        self.address = int(self._device)

    def upload(self, stream: Any) -> None:  # noqa: ANN401
        """Copy from the host when the stream gets there."""
        self._drv.memcpy_htod_async(self.address, self.host, stream)

    def download(self, stream: Any) -> None:  # noqa: ANN401
        """Copy to the host when the stream gets there; read it after synchronising."""
        self._drv.memcpy_dtoh_async(self.host, self.address, stream)

    def free(self) -> None:
        """Free the device's memory and let go of the host's."""
        self._device.free()
        del self.host
