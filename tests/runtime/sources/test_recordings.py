"""Videos that are damaged, cut off or unevenly timed."""

import pytest

from edgedetr.runtime.errors import DataError
from edgedetr.runtime.sources import recordings
from edgedetr.runtime.sources.recordings import VideoRecording

FRAMES = 10


def test_a_video_without_a_frame_is_told(damage):
    recording = VideoRecording(damage(*range(FRAMES)))
    assert not recording.skip()
    assert recording.problem.endswith("drive.avi: holds no frame that can be decoded")


def test_it_ends_after_so_many_damaged_frames_in_a_row(damage, monkeypatch):
    monkeypatch.setattr(recordings, "MOST_DAMAGED", 3)
    recording = VideoRecording(damage(2, 3, 4))
    assert [recording.skip() for _ in range(3)] == [True, True, False]
    assert "ends after 2 of 10 frames" in recording.problem


def test_frames_of_too_many_pixels_are_refused(avi, monkeypatch):
    monkeypatch.setattr(recordings, "MOST_PIXELS", 1000)
    with pytest.raises(DataError, match="frames of 48x32 pixels; at most 1000 are read"):
        VideoRecording(avi[0])


def test_frames_that_an_edit_leaves_out_are_not_missing(uneven, retime):
    path = retime(uneven, [(10, 1024)], length_s=1)
    recording = VideoRecording(retime(path, [(4, 1024), (6, 3072)]))
    seen = 0
    while recording.skip():
        seen += 1
    assert 0 < seen < FRAMES
    assert recording.problem == ""
    recording.close()


def test_time_stamps_that_stand_still_count_as_a_period(uneven, retime):
    path = retime(uneven, [(1, 1), (9, 0)])
    recording = VideoRecording(path)
    times = []
    while (time_ns := recording.time_ns()) is not None:
        times.append(time_ns)
        recording.skip()
    recording.close()
    assert times == sorted(set(times))
