"""Serve one page over HTTP from one thread; no client can hold up another or take all handles."""

from __future__ import annotations

import selectors
import socket
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_CLIENTS = 16
"""How many connections are open at once; when one more comes the oldest is closed."""
CLIENT_S = 2.0
"""How long a connection may stay open, in seconds."""
MOST_REQUEST_BYTES = 8192
"""Largest request that is read."""
_END = b"\r\n\r\n"


@contextmanager
def page_served(
    page: Callable[[], bytes], kind: str, port: int, address: str = "127.0.0.1"
) -> Iterator[int]:
    """Answer every GET on a port with a page while the block runs.

    Args:
        page: Makes the page; called on the server's thread.
        kind: Its content type.
        port: TCP port; 0 takes a free one.
        address: Interface to listen on.

    Yields:
        The port.

    Raises:
        OSError: If the port is not available, or the address is none.
    """
    try:
        family, *_, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    except UnicodeError as error:  # a name that DNS cannot hold
        raise OSError(f"{address} is no address: {error}") from error
    with socket.create_server(place[:2], family=family) as listener:
        server = _Server(listener, page, kind)
        thread = Thread(target=server.serve, daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            server.end()
            thread.join()


@dataclass(eq=False)
class _Client:
    """A connection, its request so far in ``size`` bytes, and the rest of its response."""

    connection: socket.socket
    until_s: float
    request: bytearray
    size: int = 0
    response: memoryview = field(default_factory=lambda: memoryview(b""))


class _Server:
    def __init__(self, listener: socket.socket, page: Callable[[], bytes], kind: str) -> None:
        self._page = page
        self._kind = kind
        self._listener = listener
        self._clients: list[_Client] = []  # the oldest first
        # made once: requests of any size on the heap would tear it to shreds
        self._free = [bytearray(MOST_REQUEST_BYTES) for _ in range(MOST_CLIENTS)]
        self._waker, self._wakened = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._wakened, selectors.EVENT_READ)

    def serve(self) -> None:
        """Serve until `end` is called."""
        with self._waker, self._wakened, self._selector:
            while True:
                for key, _ in self._selector.select(self._wait_s()):
                    if key.fileobj is self._wakened:
                        return self._drop_all()
                    if key.data is None:
                        self._accept()
                    elif key.data in self._clients:
                        self._attend(key.data)
                self._drop_late()

    def end(self) -> None:
        """Let the thread end."""
        self._waker.send(b".")

    def _wait_s(self) -> float | None:
        return max(0.0, self._clients[0].until_s - monotonic()) if self._clients else None

    def _accept(self) -> None:
        if len(self._clients) >= MOST_CLIENTS:
            self._drop(self._clients[0])
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it has gone again, or the process has no file handle left
            for client in self._clients[:1]:
                self._drop(client)
            return
        connection.setblocking(False)
        client = _Client(connection, monotonic() + CLIENT_S, self._free.pop())
        self._clients.append(client)
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _attend(self, client: _Client) -> None:
        """Read a client's request, or write the rest of its response."""
        try:
            if not client.response:
                if not self._has_ended(client):
                    return
                client.response = memoryview(self._answer(client))
                self._selector.modify(client.connection, selectors.EVENT_WRITE, client)
            client.response = client.response[client.connection.send(client.response) :]
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        if not client.response:
            self._drop(client)

    @staticmethod
    def _has_ended(client: _Client) -> bool:
        """Receive a piece of a request; return whether it is the last, or fills the buffer."""
        size = client.connection.recv_into(memoryview(client.request)[client.size :])
        client.size += size
        is_whole = client.request.find(_END, 0, client.size) >= 0
        return is_whole or size == 0 or client.size == MOST_REQUEST_BYTES

    def _answer(self, client: _Client) -> bytes:
        is_head = client.request.startswith(b"HEAD ", 0, client.size)
        is_get = is_head or client.request.startswith(b"GET ", 0, client.size)
        body = self._page() if is_get else b""
        head = (
            f"HTTP/1.0 {'200 OK' if is_get else '405 Method Not Allowed'}\r\n"
            f"Content-Type: {self._kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + (b"" if is_head else body)

    def _drop_late(self) -> None:
        while self._clients and self._clients[0].until_s <= monotonic():
            self._drop(self._clients[0])

    def _drop_all(self) -> None:
        while self._clients:
            self._drop(self._clients[0])

    def _drop(self, client: _Client) -> None:
        self._clients.remove(client)
        self._free.append(client.request)
        self._selector.unregister(client.connection)
        with suppress(OSError):
            client.connection.shutdown(socket.SHUT_WR)
        client.connection.close()
