"""Videos that are damaged, cut off or unevenly timed, and cameras behind a URL."""

import cv2
import numpy as np
import pytest

from edgedetr.runtime.clock import StopFlag
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.sources import recordings
from edgedetr.runtime.sources.camera import is_live
from edgedetr.runtime.sources.recordings import (
    PacedSource,
    TimedSource,
    VideoRecording,
    open_source,
)

MS = 1_000_000
FRAMES = 10


class StillClock:
    """Time passes only while somebody waits."""

    def __init__(self):
        self.ns = 0

    def now_ns(self):
        return self.ns

    def wait_until(self, time_ns, _):
        self.ns = max(self.ns, time_ns)


def written(path, codec):
    """Ten frames at 10 Hz, each redder than the one before."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (48, 32))
    for k in range(FRAMES):
        picture = np.zeros((32, 48, 3), np.uint8)
        picture[..., 2] = 20 * k
        writer.write(picture)
    writer.release()
    return path


@pytest.fixture
def avi(tmp_path):
    """A video whose frames are JPEG images, and where each begins."""
    path = written(tmp_path / "drive.avi", "MJPG")
    data = path.read_bytes()
    places: list[int] = []
    movie = data.index(b"movi")
    while len(places) < FRAMES:
        places.append(data.index(b"00dc", places[-1] + 4 if places else movie))
    return path, places


def damage(avi, *frames):
    """Overwrite frames with zeros; what says how long they are stays."""
    path, places = avi
    data = bytearray(path.read_bytes())
    for k in frames:
        size = int.from_bytes(data[places[k] + 4 : places[k] + 8], "little")
        data[places[k] + 8 : places[k] + 8 + size] = bytes(size)
    path.write_bytes(data)
    return path


def played(source, clock=None, work_ms=0):
    """Return (name, captured in ms, dropped) of each frame, and the problems."""
    stop, frames, problems = StopFlag(), [], []
    while (capture := source.next(stop)) is not None:
        if capture.frame is not None:
            times = (capture.frame.timestamp_ns // MS, capture.dropped)
            frames.append((int(capture.frame.frame_id), *times))
        if capture.problem:
            problems.append(capture.problem)
        if clock:
            clock.ns += work_ms * MS
    source.close()
    return frames, problems


def test_a_damaged_frame_is_one_that_cannot_be_read(avi):
    path = damage(avi, 3, 4)
    source = PacedSource(VideoRecording(path), 10, 1000 * MS, StillClock())
    frames, problems = played(source)
    assert frames == [(k, 100 * k, 0) for k in (0, 1, 2, 5, 6, 7, 8, 9)]
    assert problems == [f"{path}: frame {k} cannot be decoded" for k in (3, 4)]


def test_a_damaged_frame_may_be_dropped(avi):
    clock = StillClock()
    source = PacedSource(VideoRecording(damage(avi, 1)), 10, 1000 * MS, clock)
    frames, problems = played(source, clock, work_ms=250)
    assert [k for k, *_ in frames] == [0, 2, 5, 7]
    assert problems == []


def test_damage_at_the_end_or_a_cut_is_an_early_end(avi):
    path, places = avi
    source = PacedSource(VideoRecording(damage(avi, 8, 9)), 10, 1000 * MS, StillClock())
    with pytest.raises(DataError, match=r"drive\.avi: ends after 8 of 10 frames; it is cut off or"):
        played(source)
    path.write_bytes(path.read_bytes()[: places[6]])
    source = PacedSource(VideoRecording(path), 10, 1000 * MS, StillClock())
    with pytest.raises(DataError, match="ends after 6 of 10 frames"):
        played(source)
    timed = TimedSource(VideoRecording(path), 1000 * MS, StillClock())
    with pytest.raises(DataError, match="ends after 6 of 10 frames"):
        played(timed)


def test_a_video_without_a_frame_is_told(avi):
    source = PacedSource(VideoRecording(damage(avi, *range(FRAMES))), 10, MS, StillClock())
    with pytest.raises(DataError, match=r"drive\.avi: holds no frame that can be decoded"):
        source.next(StopFlag())


def test_it_ends_after_so_many_damaged_frames_in_a_row(avi, monkeypatch):
    monkeypatch.setattr(recordings, "MOST_DAMAGED", 3)
    source = PacedSource(VideoRecording(damage(avi, 2, 3, 4)), 10, 1000 * MS, StillClock())
    with pytest.raises(DataError, match="ends after 2 of 10 frames"):
        played(source)


def test_frames_of_too_many_pixels_are_refused(avi, monkeypatch):
    monkeypatch.setattr(recordings, "MOST_PIXELS", 1000)
    with pytest.raises(DataError, match="frames of 48x32 pixels; at most 1000 are read"):
        open_source(avi[0], 10, MS)


def unevenly_timed(path, counts_and_ticks, length_s=None):
    """Give an MP4 file other times between its frames, in the ticks of its track.

    The table of times (ISO/IEC 14496-12, 8.6.1.2) grows; it lies behind the pictures.
    """
    data = path.read_bytes()
    table = data.index(b"stts") - 4
    size = int.from_bytes(data[table : table + 4], "big")
    entries = b"".join(n.to_bytes(4, "big") + t.to_bytes(4, "big") for n, t in counts_and_ticks)
    new = b"stts" + bytes(4) + len(counts_and_ticks).to_bytes(4, "big") + entries
    grown = bytearray(data[: table + 4] + new + data[table + size :])
    more = len(grown) - len(data)
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        place = grown.index(box, grown.index(b"moov")) - 4
        before = int.from_bytes(grown[place : place + 4], "big")
        grown[place : place + 4] = (before + more).to_bytes(4, "big")
    if length_s:  # of the movie, and of its edit, which leaves out what is longer
        head, edit = grown.index(b"mvhd"), grown.index(b"elst")
        ticks = (length_s * int.from_bytes(grown[head + 16 : head + 20], "big")).to_bytes(4, "big")
        grown[head + 20 : head + 24] = grown[edit + 12 : edit + 16] = ticks
    path.write_bytes(grown)
    return path


@pytest.fixture
def uneven(tmp_path):
    """Five frames 100 ms apart, then five 300 ms apart."""
    path = written(tmp_path / "drive.mp4", "mp4v")
    data = path.read_bytes()
    table = data.index(b"stts")
    ticks = int.from_bytes(data[table + 16 : table + 20], "big")  # between two frames at 10 Hz
    return unevenly_timed(path, [(4, ticks), (6, 3 * ticks)], length_s=3)


def test_a_video_plays_by_its_own_time_stamps(uneven):
    source = TimedSource(VideoRecording(uneven), 1000 * MS, StillClock())
    frames, problems = played(source)
    times = [0, 100, 200, 300, 400, 700, 1000, 1300, 1600, 1900]
    assert frames == [(k, time, 0) for k, time in enumerate(times)]
    assert problems == []


def test_frames_that_an_edit_leaves_out_are_not_missing(uneven):
    path = unevenly_timed(uneven, [(10, 1024)], length_s=1)
    recording = VideoRecording(unevenly_timed(path, [(4, 1024), (6, 3072)]))
    seen = 0
    while recording.skip():
        seen += 1
    assert 0 < seen < FRAMES
    assert recording.problem == ""
    recording.close()


def test_what_comes_too_late_gives_way(uneven):
    clock = StillClock()
    source = TimedSource(VideoRecording(uneven), 1000 * MS, clock)
    frames, _ = played(source, clock, work_ms=250)
    assert [(k, dropped) for k, _, dropped in frames[:2]] == [(0, 0), (2, 1)]
    assert [k for k, *_ in frames[-4:]] == [6, 7, 8, 9]  # 250 ms is in time for 300


def test_time_stamps_that_stand_still_count_as_a_period(uneven):
    path = unevenly_timed(uneven, [(1, 1), (9, 0)])
    recording = VideoRecording(path)
    times = []
    while (time_ns := recording.time_ns()) is not None:
        times.append(time_ns)
        recording.skip()
    recording.close()
    assert times == sorted(set(times))


def test_a_rate_overrules_time_stamps(uneven):
    assert isinstance(open_source(uneven, None, MS), TimedSource)
    paced = open_source(str(uneven), 20, MS)
    assert (type(paced), paced.rate_hz) == (PacedSource, 20)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("rtsp://admin:hush@127.0.0.1:1/s?token=hush", "camera rtsp://127.0.0.1:1"),
        ("rtsp://admin:hu/sh@127.0.0.1:1/hush", "camera rtsp://..."),
        ("http://127.0.0.1:1/user=a_password=hush", "camera http://127.0.0.1:1"),
        ("ftp://a:hush@127.0.0.1/x.mp4", "camera ftp://127.0.0.1: wanted a URL of rtsp,"),
        (
            "rtspsrc location=rtsp://a:hush@h ! decodebin name=hush ! appsink",
            "pipeline rtspsrc ! decodebin ! appsink",
        ),
    ],
)
def test_no_message_holds_a_password(text, name, capfd):
    with pytest.raises(DataError) as error:
        open_source(text, 30, MS)
    assert str(error.value).startswith(name)
    out, err = capfd.readouterr()
    assert "hush" not in str(error.value) + out + err


def test_a_file_is_no_camera_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a ! b").mkdir()
    assert not is_live("a ! b")
    assert not is_live(str(tmp_path))
    assert not is_live("/dev/shm")  # noqa: S108
    assert is_live("/dev/video7")
    assert is_live("rtsp://127.0.0.1/")


def test_home_is_found_in_a_source(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError, match=f"{tmp_path}/none: no such folder"):
        open_source("~/none", 30, MS)
