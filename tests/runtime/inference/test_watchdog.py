"""Calls that do not return, or are interrupted."""

import threading

import pytest

from edgedetr.runtime.inference.watchdog import Watchdog


class Interrupted:
    """A queue whose reader is interrupted, as by Ctrl-C."""

    def get(self, **_):
        raise KeyboardInterrupt


def test_an_interrupted_call_does_not_answer_the_next_one(monkeypatch):
    watchdog, release = Watchdog(10), threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(watchdog, "_answers", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            watchdog.run(lambda: release.wait(10) and "old")
    release.set()
    assert watchdog.run(lambda: "new") == "new"
    watchdog.close()
    with pytest.raises(ValueError, match="the watchdog is closed"):
        watchdog.run(lambda: "late")


def test_a_time_limit_is_a_time():
    with pytest.raises(ValueError, match="a time limit must be above 0 s, got 0"):
        Watchdog(0)
