"""Ask the CUDA driver for the GPU, through the library that every driver installs."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

_COMPUTE_CAPABILITY_MAJOR = 75
_COMPUTE_CAPABILITY_MINOR = 76


@dataclass(frozen=True)
class CudaDevice:
    """The GPU that CUDA uses by default.

    Attributes:
        name: What its maker calls it.
        compute_capability: For example ``8.7``.
    """

    name: str
    compute_capability: str

    @property
    def target(self) -> str:
        """What an engine for this device says in its manifest, for example ``sm_87``."""
        return "sm_" + self.compute_capability.replace(".", "")


def find_device() -> CudaDevice | None:
    """Describe the first GPU; None where there is no driver or no GPU. Makes no CUDA context."""
    try:
        cuda: Any = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    answers: tuple[Callable[[], int], ...] = (  # every function answers 0 when it succeeds
        lambda: cuda.cuInit(0),
        lambda: cuda.cuDeviceGet(ctypes.byref(device), 0),
        lambda: cuda.cuDeviceGetName(name, len(name), device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, device),
    )
    if any(ask() != 0 for ask in answers):
        return None
    return CudaDevice(name.value.decode(), f"{major.value}.{minor.value}")
