"""React to signals while a command runs."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


@contextmanager
def handled(*names: str, once: bool, action: Callable[[], object]) -> Iterator[None]:
    """Call ``action`` in the main thread when a signal comes; afterwards all is as before.

    Args:
        names: Of signals, for example ``SIGTERM``; those that the system lacks are left out.
        once: Whether a second signal acts as it would without this.
        action: What to call. It must not wait for a lock.
    """
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}

    def act(number: int, _: FrameType | None) -> None:
        if once:
            signal.signal(number, before[number])
        action()

    for number in numbers:
        signal.signal(number, act)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ended_in_order(*, reloads: bool) -> Iterator[None]:
    """Let SIGTERM, and SIGHUP of a terminal that closes, end a command as Ctrl-C does.

    What is unfinished is removed, and the status is 128 and the signal's number. A second signal
    ends it at once.

    Args:
        reloads: Whether SIGHUP makes the command read its files again. Before and after the command
            itself handles it: it is
            ignored until the process ends.
    """
    names = ["SIGTERM"]
    if hasattr(signal, "SIGHUP"):
        if reloads:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            names.append("SIGHUP")
    owner = os.getpid()

    def end(number: int, _: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != owner:  # a worker that was forked has nothing to put in order
            os.kill(os.getpid(), number)
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in names]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_by_signal(status: int) -> None:
    """End the process by the signal that `ended_in_order` handled; return if there was none.

    So its parent, for example systemd, sees the signal.
    """
    number = status - 128
    if number in {getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")}:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
