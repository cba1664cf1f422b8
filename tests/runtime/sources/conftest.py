"""Small videos and a clock that stands still, for sources that would wait."""

import cv2
import numpy as np
import pytest

FRAMES = 10


class StillClock:
    """Time passes only while somebody waits."""

    def __init__(self):
        self.ns = 0

    def now_ns(self):
        return self.ns

    def wait_until(self, time_ns, _):
        self.ns = max(self.ns, time_ns)


@pytest.fixture
def clock():
    return StillClock()


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


@pytest.fixture
def redder(tmp_path):
    """An MP4 of ten frames, each redder than the one before."""
    return written(tmp_path / "drive.mp4", "mp4v")


@pytest.fixture
def damage(avi):
    """Overwrites frames of ``avi`` with zeros; what says how long they are stays."""

    def overwrite(*frames):
        path, places = avi
        data = bytearray(path.read_bytes())
        for k in frames:
            size = int.from_bytes(data[places[k] + 4 : places[k] + 8], "little")
            data[places[k] + 8 : places[k] + 8 + size] = bytes(size)
        path.write_bytes(data)
        return path

    return overwrite


@pytest.fixture
def retime():
    return _retimed


@pytest.fixture
def uneven(tmp_path):
    """Five frames 100 ms apart, then five 300 ms apart."""
    path = written(tmp_path / "drive.mp4", "mp4v")
    data = path.read_bytes()
    table = data.index(b"stts")
    ticks = int.from_bytes(data[table + 16 : table + 20], "big")  # between two frames at 10 Hz
    return _retimed(path, [(4, ticks), (6, 3 * ticks)], length_s=3)


def _retimed(path, counts_and_ticks, length_s=None):
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
