"""SIGTERM while a run trains: clusters send it before they take a machine away."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgedetr.runtime.commands.signals import handled

if TYPE_CHECKING:
    from collections.abc import Iterator


class Preemption:
    """Whether a SIGTERM came.

    Attributes:
        came: Whether it did, and was not acted upon yet.
    """

    def __init__(self) -> None:
        self.came = False

    def note(self) -> None:
        """Remember that it came."""
        self.came = True

    def act(self) -> None:
        """Let the signal do what it would have done when it came; return if that is nothing.

        Where it came to another process of the run, it is sent to this one.
        """
        if not self.came:
            signal.raise_signal(signal.SIGTERM)  # is noted
        self.came = False
        signal.raise_signal(signal.SIGTERM)


@contextmanager
def noted_sigterm() -> Iterator[Preemption]:
    """Note a SIGTERM, so that a state can be written first; a second one acts at once.

    Outside of the main thread, which alone can do that, it acts at once, as without this.
    """
    preemption = Preemption()
    if threading.current_thread() is not threading.main_thread():
        yield preemption
        return
    with handled("SIGTERM", once=True, action=preemption.note):
        yield preemption
