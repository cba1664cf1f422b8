"""A vehicle does not go back to an older package, signed or not."""

import json
import os
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import pytest

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.package.counter import STATE, CounterKeeper

PACKAGE = Path("p.tar")


def accept(state, counter, *, is_trusted=True):
    keeper = CounterKeeper(state)
    keeper.check(counter, PACKAGE, is_trusted=is_trusted)
    keeper.accept(otherwise=lambda: None)


def lowest(state):
    return json.loads((state / STATE).read_text(encoding="utf-8"))["counter"]


def test_the_lowest_counter_rises_and_never_falls(tmp_path):
    state = tmp_path / "new" / "state"
    for counter in (3, 3, 7):
        accept(state, counter)
        assert lowest(state) == counter
    with pytest.raises(ArtifactError, match=r"p\.tar has counter 6, older than 7 of p\.tar, which"):
        accept(state, 6)
    assert lowest(state) == 7
    assert [p.name for p in state.iterdir()] == [STATE]


def test_nothing_is_kept_before_a_package_is_in_use_nor_of_an_unsigned_one(tmp_path):
    CounterKeeper(tmp_path).check(9, PACKAGE, is_trusted=True)
    accept(tmp_path, 9, is_trusted=False)
    assert not list(tmp_path.iterdir())
    accept(tmp_path, 2)
    with pytest.raises(ArtifactError, match="older than 2"):
        CounterKeeper(tmp_path).check(1, PACKAGE, is_trusted=False)


def test_without_a_state_every_package_is_accepted():
    accept(None, 0)


@pytest.mark.parametrize(
    "text",
    [
        *("", "7", "[" * 9999, '{"counter": 7}', '{"counter": NaN}', "\0" * 50),
        '{"format": "edgedetr-counter-1", "counter": "7", "package": ""}',
        '{"format": "edgedetr-counter-1", "counter": 7, "counter": 0, "package": ""}',
        '{"format": "edgedetr-counter-2", "counter": 7, "package": ""}',
    ],
)
def test_a_damaged_state_refuses(tmp_path, text):
    (tmp_path / STATE).write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match="does not hold the lowest counter") as stopped:
        accept(tmp_path, 99)
    assert "\n" not in str(stopped.value)
    assert (tmp_path / STATE).read_text(encoding="utf-8") == text


@pytest.mark.parametrize("kind", ["file", "pipe", "loop"])
def test_a_state_that_is_no_folder_keeps_nothing_out_and_says_so(tmp_path, kind):
    state = tmp_path / "state"
    {"file": Path.touch, "pipe": os.mkfifo, "loop": lambda p: p.symlink_to(p)}[kind](state)
    with pytest.raises(ArtifactError, match="state is no folder, so nothing keeps out older"):
        CounterKeeper(state).check(99, PACKAGE, is_trusted=True)


def test_a_state_that_leads_nowhere_refuses(tmp_path):
    (tmp_path / STATE).symlink_to(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match="does not hold the lowest counter"):
        CounterKeeper(tmp_path).check(99, PACKAGE, is_trusted=True)


def test_a_state_that_cannot_be_written_to_closes_what_was_opened(tmp_path):
    state = tmp_path / "file" / "state"
    state.parent.write_bytes(b"")
    keeper, closed = CounterKeeper(state), []
    keeper.check(1, PACKAGE, is_trusted=True)
    with pytest.raises(ArtifactError, match="state must be a folder that can be written to"):
        keeper.accept(otherwise=lambda: closed.append(1))
    assert closed == [1]


def test_a_newer_package_may_be_accepted_meanwhile(tmp_path):
    keeper = CounterKeeper(tmp_path)
    keeper.check(5, PACKAGE, is_trusted=True)
    accept(tmp_path, 6)
    with pytest.raises(ArtifactError, match="older than 6"):
        keeper.accept(otherwise=lambda: None)
    assert lowest(tmp_path) == 6


def _race(state, counters):
    for counter in counters:
        with suppress(ArtifactError):
            accept(state, counter)


def test_several_processes_at_once_leave_the_highest(tmp_path):
    context = get_context("fork")
    racers = [
        context.Process(target=_race, args=(tmp_path, range(first, 60, 3))) for first in range(3)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert lowest(tmp_path) == 59
