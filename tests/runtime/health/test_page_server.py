"""Clients that ask for nothing, slowly, or for too much hold nobody up."""

import socket
import time
import tracemalloc

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


def test_requests_in_pieces(connect):
    with page_served(page, "text/plain", 0) as port:
        for pieces in ([GET[at : at + 1] for at in range(len(GET))], [GET[:-2], GET[-2:]]):
            connection = connect(port)
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.001)
            assert answer(connection).startswith(b"HTTP/1.0 200 OK\r\n")


@pytest.mark.parametrize(
    ("request_", "head"),
    [(GET, b"HTTP/1.0 200 "), (b"GET /me", b"HTTP/1.0 200 "), (b"GE", b"HTTP/1.0 405 ")],
)
def test_a_client_that_has_said_all_gets_its_answer(connect, request_, head):
    with page_served(page, "text/plain", 0) as port:
        answer(connect(port, GET))  # whose request is still in the buffer
        for _ in range(MOST_CLIENTS):
            connection = connect(port, request_)
            connection.shutdown(socket.SHUT_WR)
            assert answer(connection).startswith(head)


def test_requests_take_no_memory_of_their_own(connect):
    junk = b"x" * (MOST_REQUEST_BYTES - 1)
    with page_served(page, "text/plain", 0) as port:
        answer(connect(port, GET))
        tracemalloc.start()
        try:
            waiting = [connect(port, junk) for _ in range(MOST_CLIENTS - 1)]
            answer(connect(port, GET))
            kept_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept_bytes < len(waiting) * len(junk) / 4
        waiting[0].sendall(b"x")  # which makes it too long
        assert answer(waiting[0]).startswith(b"HTTP/1.0 405 ")


def test_the_end_closes_connections(connect):
    with page_served(page, "text/plain", 0) as port:
        idle = connect(port)
        assert answer(connect(port, GET))
    assert answer(idle) == b""
