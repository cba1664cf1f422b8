"""Let signals ask a running command for something."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

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
