"""Processes that load or render for another one: they end with it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Linux: the signal that a process gets when the one that started it ends (``prctl(2)``)."""


def end_with_parent(parent: int) -> None:
    """Let this process end when the one that started it does, in whatever way that ends.

    Ctrl-C, which a terminal sends to both, is left to the parent.

    Args:
        parent: The parent's process id.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl cannot set the signal of the parent's end")
    if os.getppid() != parent:  # it ended meanwhile
        os._exit(1)
