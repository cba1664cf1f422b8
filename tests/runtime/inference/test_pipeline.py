"""Frames pass two stages in order; a full queue lets the oldest go, and no error ends a thread."""

from concurrent.futures import CancelledError
from threading import Event
from typing import Any

import numpy as np
import pytest

from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.inference.pipeline import WAITING_FRAMES, Pipeline
from edgedetr.runtime.types import Frame


def make_pipeline(prepare: Any, answer: Any, on_end: Any = lambda: None) -> Any:
    """A pipeline whose results are names, and no detections."""
    return Pipeline(prepare, answer, on_end)


def frame(name):
    return Frame(np.zeros((1, 1, 3), np.uint8), frame_id=name)


def held_pipeline(gate):
    """A pipeline whose first stage waits, and an event that is set once a frame is in it."""
    entered = Event()

    def prepare(found):
        entered.set()
        assert gate.wait(20)
        return found.frame_id

    return make_pipeline(prepare, lambda _, prepared: prepared), entered


def test_both_stages_run_in_the_order_of_the_frames():
    seen, ended = [], []

    def prepare(found):
        seen.append(found.frame_id)
        return found.frame_id

    pipeline = make_pipeline(
        prepare, lambda f, prepared: (f.frame_id, prepared), lambda: ended.append(list(seen))
    )
    futures = [pipeline.submit(frame(name), wait=True) for name in "abcdef"]
    assert [f.result(20) for f in futures] == [(name, name) for name in "abcdef"]
    pipeline.close()
    assert ended == [list("abcdef")]


def test_the_frame_that_waited_longest_gives_way():
    gate = Event()
    pipeline, entered = held_pipeline(gate)
    first = pipeline.submit(frame("first"), wait=False)
    assert entered.wait(20)
    waiting = [pipeline.submit(frame(str(i)), wait=False) for i in range(WAITING_FRAMES + 1)]
    assert [f.cancelled() for f in waiting] == [True] + [False] * WAITING_FRAMES
    gate.set()
    assert first.result(20) == "first"
    assert [f.result(20) for f in waiting[1:]] == ["1", "2"]
    pipeline.close()


def test_an_error_of_a_stage_belongs_to_its_frame_alone():
    def refuse(found, bad):
        if found.frame_id == bad:
            raise ValueError(bad)
        return found.frame_id

    pipeline = make_pipeline(lambda f: refuse(f, "a"), lambda f, _: refuse(f, "b"))
    a, b, c = (pipeline.submit(frame(name), wait=True) for name in "abc")
    with pytest.raises(ValueError, match="a"):
        a.result(20)
    with pytest.raises(ValueError, match="b"):
        b.result(20)
    assert c.result(20) == "c"
    pipeline.close()


def test_closing_cancels_what_waits_and_refuses_what_comes():
    gate = Event()
    pipeline, entered = held_pipeline(gate)
    first = pipeline.submit(frame("first"), wait=False)
    assert entered.wait(20)
    second = pipeline.submit(frame("second"), wait=False)
    second.add_done_callback(lambda _: gate.set())  # `close` waits for the first
    pipeline.close()
    assert first.result(0) == "first"
    with pytest.raises(CancelledError):
        second.result(0)
    with pytest.raises(ValueError, match="closed"):
        pipeline.submit(frame("third"), wait=False)


def test_a_callback_cannot_wait_for_room_and_its_error_ends_no_thread():
    gate, found = Event(), []
    pipeline = make_pipeline(
        lambda f: f.frame_id,
        lambda _, prepared: prepared if gate.wait(20) else None,
    )

    def again(_):
        try:
            pipeline.submit(frame("b"), wait=True)
        except UsageError as error:
            found.append(str(error))
        raise KeyError

    pipeline.submit(frame("a"), wait=True).add_done_callback(again)
    gate.set()
    assert pipeline.submit(frame("c"), wait=True).result(20) == "c"
    pipeline.close()
    assert len(found) == 1
    assert "submit without wait" in found[0]
