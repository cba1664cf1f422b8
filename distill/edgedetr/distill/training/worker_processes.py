"""Processes that load or render for another one: they end with it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

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


def leave_sigterm_to(parent: int) -> None:
    """Let a SIGTERM end this process only where it comes from the one that started it.

    A cluster sends it to all processes of a run: the parent still needs this one to take its last
    step, and ends it then. Call it before any other thread is started.

    Args:
        parent: The parent's process id.
    """
    if sys.platform != "linux":
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_at_sigterm_of, args=(parent,), daemon=True).start()


def _end_at_sigterm_of(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
