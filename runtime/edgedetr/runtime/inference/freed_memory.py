"""Give back to the system what models that were closed leave in the process."""

from __future__ import annotations

import ctypes


def return_freed_memory() -> None:
    """Return whole pages that the C library's allocator keeps; nothing where it is not glibc.

    Two models are open during a swap, and what one of them had lies in holes between what stays.
    That takes a few milliseconds of the calling thread, 50 after 200 MB; other threads go on.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
