"""Recordings played at a pace: what comes late is dropped, what is damaged is passed over."""

import pytest

from edgedetr.runtime.clock import StopFlag
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.sources.playback import PacedSource, TimedSource
from edgedetr.runtime.sources.recordings import FolderRecording, VideoRecording

MS = 1_000_000


def played(source, clock=None, work_ms=0):
    """Return (name, captured in ms, dropped) of each frame, and the problems."""
    stop, frames = StopFlag(), []
    problems: list[str] = []
    while (capture := _next(source, stop, problems)) is not None:
        if capture.frame is not None:
            times = (capture.frame.timestamp_ns // MS, capture.dropped)
            frames.append((int(capture.frame.frame_id), *times))
        if capture.problem:
            problems.append(capture.problem)
        if clock:
            clock.ns += work_ms * MS
    source.close()
    return frames, problems


def _next(source, stop, problems):
    """Return the next frame; note what the end says."""
    try:
        return source.next(stop)
    except DataError as error:
        problems.append(str(error))
        return None


def test_a_damaged_frame_is_one_that_cannot_be_read(damage, clock):
    path = damage(3, 4)
    source = PacedSource(VideoRecording(path), 10, 1000 * MS, clock)
    frames, problems = played(source)
    assert frames == [(k, 100 * k, 0) for k in (0, 1, 2, 5, 6, 7, 8, 9)]
    assert problems == [
        *(f"{path}: frame {k} cannot be decoded" for k in (3, 4)),
        f"{path}: damaged; 2 of 10 frames cannot be decoded",
    ]


def test_a_damaged_frame_may_be_dropped(damage, clock):
    path = damage(1)
    source = PacedSource(VideoRecording(path), 10, 1000 * MS, clock)
    frames, problems = played(source, clock, work_ms=250)
    assert [k for k, *_ in frames] == [0, 2, 5, 7]
    assert problems == [f"{path}: damaged; 1 of 10 frames cannot be decoded"]


def test_damage_at_the_end_or_a_cut_is_an_early_end(avi, damage, clock):
    path, places = avi
    source = PacedSource(VideoRecording(damage(8, 9)), 10, 1000 * MS, clock)
    assert played(source)[1] == [f"{path}: ends after 8 of 10 frames; it is cut off or damaged"]
    path.write_bytes(path.read_bytes()[: places[6]])
    source = PacedSource(VideoRecording(path), 10, 1000 * MS, clock)
    cut = [f"{path}: ends after 6 of 10 frames; it is cut off or damaged"]
    assert played(source)[1] == cut
    assert played(TimedSource(VideoRecording(path), 1000 * MS, clock))[1] == cut


def test_a_video_plays_by_its_own_time_stamps(uneven, clock):
    source = TimedSource(VideoRecording(uneven), 1000 * MS, clock)
    frames, problems = played(source)
    times = [0, 100, 200, 300, 400, 700, 1000, 1300, 1600, 1900]
    assert frames == [(k, time, 0) for k, time in enumerate(times)]
    assert problems == []


def test_what_comes_too_late_gives_way(uneven, clock):
    source = TimedSource(VideoRecording(uneven), 1000 * MS, clock)
    frames, _ = played(source, clock, work_ms=250)
    assert [(k, dropped) for k, _, dropped in frames[:2]] == [(0, 0), (2, 1)]
    assert [k for k, *_ in frames[-4:]] == [6, 7, 8, 9]  # 250 ms is in time for 300


def test_a_video_is_played_as_rgb_and_skipped_through(redder, clock):
    source = PacedSource(VideoRecording(redder), 10, 1000 * MS, clock)
    stop, seen = StopFlag(), []
    while (capture := source.next(stop)) is not None and capture.frame is not None:
        seen.append((capture.frame.frame_id, capture.dropped))
        number = int(capture.frame.frame_id)
        red, green, _ = capture.frame.image.reshape(-1, 3).mean(axis=0)
        assert red == pytest.approx(20 * number, abs=12)
        assert green < 12
        clock.ns += 250 * MS
    assert capture is not None
    assert capture.dropped == 2  # 8 and 9 came while 7 was looked at, and nothing after them
    assert source.next(stop) is None
    source.close()
    assert seen == [("000000", 0), ("000002", 1), ("000005", 2), ("000007", 1)]


def test_an_empty_list_is_over_at_once(clock):
    source = PacedSource(FolderRecording([]), 10, MS, clock)
    assert source.next(StopFlag()) is None
