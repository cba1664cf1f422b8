"""Requests to swap: the newest wins, and one that never ends holds up neither stream nor end."""

import threading

import pytest

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.inference import swapping
from edgedetr.runtime.inference.swapping import Swapper, SwapRequests

SECONDS = 10


class Opener:
    """Opens what the file holds, once it may; it notes what it opened."""

    def __init__(self):
        self.file, self.may, self.started = "", threading.Semaphore(0), threading.Semaphore(0)
        self.opened = []

    def __call__(self):
        file = self.file
        self.started.release()
        assert self.may.acquire(timeout=SECONDS)
        if file == "bad":
            raise ArtifactError("it is cut off")
        self.opened.append(file)
        return f"{file} is swapped in"


@pytest.fixture
def opener():
    found = Opener()
    yield found
    found.may.release(100)


def test_the_newest_file_is_placed_last(opener):
    requests = SwapRequests()
    notes: list[str] = []
    opener.file = "first"
    requests.request()  # before anybody serves
    with Swapper(requests, opener, "m.onnx", notes.append):
        assert opener.started.acquire(timeout=SECONDS)
        for name in ("second", "third", "fourth"):
            opener.file = name
            requests.request()
        opener.may.release(2)
        assert opener.started.acquire(timeout=SECONDS)
        while len(notes) < 2:
            opener.started.acquire(timeout=0.01)
    assert opener.opened == ["first", "fourth"]
    assert notes == ["first is swapped in", "fourth is swapped in"]


def test_a_bad_file_is_reported_and_the_next_one_opened(opener):
    requests = SwapRequests()
    notes: list[str] = []
    opener.may.release(2)
    with Swapper(requests, opener, "m.onnx", notes.append):
        for name in ("bad", "good"):
            opener.file = name
            requests.request()
            while not notes or (name == "good" and len(notes) < 2):
                opener.started.acquire(timeout=0.01)
    assert notes == [
        "m.onnx is not swapped in, the old model stays in use: it is cut off",
        "good is swapped in",
    ]


def test_a_swap_that_never_ends_is_reported_and_abandoned(opener, monkeypatch):
    monkeypatch.setattr(swapping, "SLOW_S", 0.05)
    monkeypatch.setattr(swapping, "END_S", 0.05)
    left: list[threading.Thread] = []
    monkeypatch.setattr(swapping, "leave_alone", left.append)
    requests = SwapRequests()
    notes: list[str] = []
    with Swapper(requests, opener, "m.onnx", notes.append):
        requests.request()
        while not notes:
            opener.started.acquire(timeout=0.01)
    assert notes == [
        "m.onnx is not open after 0.05 s, the old model stays in use",
        "m.onnx was still being opened at the end and is abandoned",
    ]
    assert left[0].is_alive()
    opener.may.release()
    left[0].join(SECONDS)
    assert not left[0].is_alive()
