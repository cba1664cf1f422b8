"""Requests to swap the model while the stream goes on; `Detector.swap` does it."""

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
"""After how long a message reports that a swap takes long, in seconds."""
END_S = 5.0
"""How long the end waits for a swap under way, in seconds."""


class SwapRequests:
    """Requests to swap; a signal handler may add one, also before a `Swapper` runs."""

    def __init__(self) -> None:
        self._requests: SimpleQueue[bool] = SimpleQueue()

    def request(self) -> None:
        """Request a swap."""
        self._requests.put(True)

    def end(self) -> None:
        """Request the end of the `Swapper`."""
        self._requests.put(False)

    def wait(self) -> bool:
        """Wait for requests and take them all; return whether to swap, or to end."""
        wanted = self._requests.get()
        while wanted and not self._requests.empty():
            wanted = self._requests.get()
        return wanted


class Swapper:
    """One thread that swaps, one request after another: the last request wins.

    Requests that come while a model opens become one, which opens the file as it is by then.

    Args:
        requests: Where they come from.
        swap: Opens the model and puts it in place; returns the message then.
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
        """Wait for a swap under way, but no longer than `END_S`; one that hangs is abandoned."""
        self._requests.end()
        self._thread.join(END_S)
        if self._thread.is_alive():
            leave_alone(self._thread)
            self._note(f"{self._name} was still being opened at the end and is abandoned")

    def _serve(self) -> None:
        while self._requests.wait():
            done = SimpleQueue[None]()
            Thread(target=self._report_if_slow, args=(done,), daemon=True).start()
            try:
                self._note(self._swap())
            except Exception as error:  # of any kind; the old model stays in use
                self._note(f"{self._name} is not swapped in, the old model stays in use: {error}")
            finally:
                done.put(None)

    def _report_if_slow(self, done: SimpleQueue[None]) -> None:
        try:
            done.get(timeout=SLOW_S)
        except Empty:
            self._note(f"{self._name} is not open after {SLOW_S:g} s, the old model stays in use")
