"""Tell systemd that the service is ready and alive, with datagrams as sd_notify(3) describes them.

`edgedetr.runtime.health.watch` does, for each frame that was detected in.

A detector that hangs where Python cannot end it, or whose process stops, is then killed and
restarted by systemd (``WatchdogSec`` of the unit). Without a service manager nothing is sent.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_MICROSECONDS = 1_000_000


class ServiceManager:
    """The service manager that started this process, if one did.

    In a ``with`` block the service is ready; after it, it stops.

    Args:
        address: Of its socket: a path, or a name in the abstract namespace behind ``@``. By default
            ``NOTIFY_SOCKET`` of the environment.
        watchdog_s: Within what time it wants a sign of life, in seconds; 0 for never. By default
            ``WATCHDOG_USEC`` of the environment.
    """

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._every_s = (_watchdog_s() if watchdog_s is None else watchdog_s) / 2
        self._sent_s = float("-inf")

    def __enter__(self) -> Self:
        self._send("READY=1")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Report a sign of life; call it for each frame, it sends two within the time wanted."""
        if self._every_s and monotonic() - self._sent_s >= self._every_s:
            self._sent_s = monotonic()
            self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with (
            suppress(OSError),  # a manager that has gone; what it wants to know matters to it alone
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out,
        ):
            out.sendto(state.encode(), address)


def _watchdog_s() -> float:
    """Return the time that the environment names for this process, in seconds; 0 where none is."""
    text, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    is_ours = not process or process == str(os.getpid())
    return int(text) / _MICROSECONDS if is_ours and text.isascii() and text.isdigit() else 0.0
