import ctypes
import resource
from pathlib import Path

import pytest

from edgedetr.runtime.inference.freed_memory import return_freed_memory

libc = ctypes.CDLL(None)
BLOCK_BYTES, BLOCKS = 16 << 10, 2000


def resident_bytes():
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


@pytest.mark.skipif(not hasattr(libc, "malloc_trim"), reason="this C library is not glibc")
def test_holes_between_what_stays_are_returned():
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    blocks = [libc.malloc(BLOCK_BYTES) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK_BYTES)
    kept = blocks[::10]
    for block in set(blocks) - {*kept}:
        libc.free(block)
    before = resident_bytes()
    return_freed_memory()
    assert before - resident_bytes() > BLOCK_BYTES * BLOCKS / 2
    for block in kept:
        libc.free(block)


def test_nothing_happens_without_glibc(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    return_freed_memory()
