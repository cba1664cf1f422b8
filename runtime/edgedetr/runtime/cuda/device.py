"""Find the GPU through the CUDA driver's own library."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

TEGRA = ("sm_72", "sm_87", "sm_101", "sm_110")
"""Xavier, Orin and Thor (its names in CUDA 12 and 13): no hardware-compatible engine runs there."""

_COMPUTE_CAPABILITY_MAJOR = 75
_COMPUTE_CAPABILITY_MINOR = 76


@dataclass(frozen=True)
class CudaDevice:
    """The GPU that CUDA uses by default.

    Attributes:
        name: Product name.
        compute_capability: For example ``8.7``.
    """

    name: str
    compute_capability: str

    @property
    def target(self) -> str:
        """Name of this device in the manifests of engines, for example ``sm_87``."""
        return "sm_" + self.compute_capability.replace(".", "")


def find_device() -> CudaDevice | None:
    """Describe the first GPU; None where there is no driver or no GPU. Makes no CUDA context."""
    try:
        cuda: Any = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    calls: tuple[Callable[[], int], ...] = (  # each returns 0 when it succeeds
        lambda: cuda.cuInit(0),
        lambda: cuda.cuDeviceGet(ctypes.byref(device), 0),
        lambda: cuda.cuDeviceGetName(name, len(name), device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, device),
    )
    if any(call() != 0 for call in calls):
        return None
    return CudaDevice(name.value.decode(), f"{major.value}.{minor.value}")
