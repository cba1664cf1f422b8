"""Swap a model in when somebody asks, beside a stream that goes on."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from edgedetr.runtime.inference.watchdog import leave_alone

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

SLOW_S = 30.0
"""After how long a swap is said to take long, in seconds."""
END_S = 5.0
"""How long the end waits for a swap under way, in seconds."""


class SwapRequests:
    """Requests to swap; a signal handler may make one, also before anybody serves them."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[bool] = SimpleQueue()

    def ask(self) -> None:
        """Ask for a swap."""
        self._asked.put(True)

    def end(self) -> None:
        """Ask whoever waits to end."""
        self._asked.put(False)

    def wait(self) -> bool:
        """Wait for requests and take them all; tell whether to swap, or to end."""
        wanted = self._asked.get()
        while wanted and not self._asked.empty():
            wanted = self._asked.get()
        return wanted


class Swapper:
    """One thread that swaps, one request after another: what was asked for last is placed last.

    Requests that come while a model opens become one, which opens the file as it is by then.

    Args:
        requests: Where they come from.
        swap: Opens the model and puts it in place; returns what to say then.
        name: Of the model, for messages.
        note: Takes a message.
    """

    def __init__(
        self,
        requests: SwapRequests,
        swap: Callable[[], str],
        name: str,
        note: Callable[[str], object],
    ) -> None:
        self._requests = requests
        self._swap = swap
        self._name = name
        self._note = note
        self._thread = Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for a swap under way, but no longer than `END_S`; one that hangs is given up."""
        self._requests.end()
        self._thread.join(END_S)
        if self._thread.is_alive():
            leave_alone(self._thread)
            self._note(f"{self._name} was still not open at the end and is given up")

    def _serve(self) -> None:
        while self._requests.wait():
            done = SimpleQueue[None]()
            Thread(target=self._say_if_slow, args=(done,), daemon=True).start()
            try:
                self._note(self._swap())
            except Exception as error:  # of whatever kind, the old model works on
                self._note(f"{self._name} is not swapped in, the old model works on: {error}")
            finally:
                done.put(None)

    def _say_if_slow(self, done: SimpleQueue[None]) -> None:
        try:
            done.get(timeout=SLOW_S)
        except Empty:
            self._note(f"{self._name} is still not open after {SLOW_S:g} s, the old model works on")
