"""Clients that ask for nothing, slowly, or for too much hold nobody up."""

import socket
import time

import pytest

from edgedetr.runtime.health import page_server
from edgedetr.runtime.health.page_server import MOST_CLIENTS, MOST_REQUEST_BYTES, page_served

GET = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def connect():
    """Connects to a port; all connections are closed at the end."""
    made = []

    def to(port, request=b""):
        made.append(socket.create_connection(("127.0.0.1", port), timeout=10))
        made[-1].sendall(request)
        return made[-1]

    yield to
    for connection in made:
        connection.close()


def answer(connection):
    """Read to the end."""
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def page():
    return b"edgedetr_health 0.0\n"


def test_idle_clients_leave_room(connect):
    with page_served(page, "text/plain", 0) as port:
        idle = [connect(port, b"GET /me") for _ in range(3 * MOST_CLIENTS)]
        assert answer(connect(port, GET)).endswith(b"\r\n\r\nedgedetr_health 0.0\n")
        assert [answer(old) for old in idle[:MOST_CLIENTS]] == [b""] * MOST_CLIENTS


def drip(connection):
    for _ in range(500):
        connection.sendall(b"x")
        time.sleep(0.02)


def test_a_slow_client_has_so_much_time_and_no_more(connect, monkeypatch):
    monkeypatch.setattr(page_server, "CLIENT_S", 0.2)
    with page_served(page, "text/plain", 0) as port, pytest.raises(ConnectionError):
        drip(connect(port))


def test_a_client_that_does_not_read_holds_nobody_up(connect):
    with page_served(lambda: bytes(1 << 24), "text/plain", 0) as port:
        connect(port, GET)
        assert len(answer(connect(port, GET))) > 1 << 24


@pytest.mark.parametrize(
    ("request_", "head", "body"),
    [
        (GET, b"HTTP/1.0 200 OK\r\n", b"edgedetr_health 0.0\n"),
        (b"HEAD / HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK\r\n", b""),
        (b"POST / HTTP/1.0\r\n\r\n", b"HTTP/1.0 405 ", b""),
        (b"x" * MOST_REQUEST_BYTES, b"HTTP/1.0 405 ", b""),
    ],
)
def test_requests(connect, request_, head, body):
    with page_served(page, "text/plain; version=1", 0) as port:
        found = answer(connect(port, request_))
    assert found.startswith(head)
    assert b"Content-Type: text/plain; version=1\r\n" in found
    assert found.partition(b"\r\n\r\n")[2] == body


def test_the_end_closes_connections(connect):
    with page_served(page, "text/plain", 0) as port:
        idle = connect(port)
        assert answer(connect(port, GET))
    assert answer(idle) == b""
