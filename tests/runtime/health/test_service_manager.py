"""What a service manager hears, on a socket that the test listens to."""

import os
import socket
from contextlib import suppress

import pytest

from edgedetr.runtime.health.service_manager import ServiceManager


@pytest.fixture
def manager(tmp_path):
    """A socket as systemd's, which is read without waiting."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listening:
        listening.bind(str(tmp_path / "notify"))
        yield listening


def heard(listening):
    """Return all that was sent."""
    texts = []
    with suppress(BlockingIOError):
        while True:
            texts.append(listening.recv(100).decode())
    return texts


def test_it_hears_of_the_start_of_life_and_of_the_end(manager, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    with ServiceManager() as service:
        for _ in range(3):
            service.alive()
    assert heard(manager) == ["READY=1", "WATCHDOG=1", "STOPPING=1"]


def test_two_signs_of_life_within_the_time_wanted(manager, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("edgedetr.runtime.health.service_manager.monotonic", lambda: now[0])
    service = ServiceManager(manager.getsockname(), watchdog_s=10)
    for now[0] in (0, 1, 4.9, 5, 6, 9.9, 10.5):
        service.alive()
    assert heard(manager) == ["WATCHDOG=1"] * 3


@pytest.mark.parametrize("wanted", ["", "no number", "-5", "³"])
def test_without_a_time_there_is_no_sign_of_life(manager, monkeypatch, wanted):
    monkeypatch.setenv("WATCHDOG_USEC", wanted)
    service = ServiceManager(manager.getsockname())
    service.alive()
    assert heard(manager) == []


def test_the_time_of_another_process_does_not_count(manager, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    ServiceManager(manager.getsockname()).alive()
    assert heard(manager) == []


def test_a_name_of_the_abstract_namespace():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listening:
        listening.bind(f"\0edgedetr-test-{os.getpid()}")
        with ServiceManager(f"@edgedetr-test-{os.getpid()}"):
            assert heard(listening) == ["READY=1"]


def test_no_manager_and_one_that_is_gone_are_no_error(tmp_path, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    for service in (ServiceManager(), ServiceManager(str(tmp_path / "gone"))):
        with service:
            service.alive()
