from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from edgedetr.bench.report import measure as measure_module
from edgedetr.bench.report.measure import measure

if TYPE_CHECKING:
    import pytest

    from edgedetr.distill.data import Dataset


class Recorder:
    """A detector that notes which frames it was given, and whose network takes 7 ns a frame."""

    def __init__(self, name: str, calls: list[tuple[str, int]]) -> None:
        self.name, self.calls, self.backend = name, calls, f"{name}'s library"
        self.times = SimpleNamespace(infer_ns=0)

    def detect(self, frame: int) -> tuple[str, int]:
        self.calls.append((self.name, frame))
        self.times = SimpleNamespace(infer_ns=self.times.infer_ns + 7)
        return self.name, frame


class Frames:
    """A data set whose frames are their numbers."""

    def __getitem__(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(frame=index)


def run(frames: int) -> tuple[list[Any], list[tuple[str, int]]]:
    calls: list[tuple[str, int]] = []
    detectors = cast("Any", [Recorder("a", calls), Recorder("b", calls)])
    return cast("Any", measure(detectors, cast("Dataset", Frames()), frames)), calls


def test_models_take_turns_and_the_first_pass_of_a_turn_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measure_module, "BLOCK", 2)
    monkeypatch.setattr(measure_module, "MIN_TIMED_FRAMES", 1)
    (a, b), calls = run(3)
    first = [("a", 0), ("a", 1)] * 2 + [("b", 0), ("b", 1)] * 2
    assert calls == [*first, ("b", 2), ("b", 2), ("a", 2), ("a", 2)]
    assert a.detections == [("a", 0), ("a", 1), ("a", 2)]
    assert b.detections == [("b", 0), ("b", 1), ("b", 2)]
    assert (a.ran_on, b.ran_on) == ("a's library", "b's library")
    assert a.model_ns == b.model_ns == [7, 7, 7]
    assert len(a.latency_ns) == 3


def test_few_frames_are_timed_again_but_detected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "MIN_TIMED_FRAMES", 10)
    (a, _), _ = run(4)
    assert len(a.latency_ns) == 12
    assert [frame for _, frame in a.detections] == [0, 1, 2, 3]
