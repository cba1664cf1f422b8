"""How much of a video is missing, by the header of its file."""

import pytest

from edgedetr.runtime.sources.video_length import missing_s


def box(kind, data):
    return (8 + len(data)).to_bytes(4, "big") + kind + data


@pytest.mark.parametrize(
    ("version", "times", "width"), [(b"\x00", 8, 4), (b"\x01", 16, 8)], ids=["32 bits", "64 bits"]
)
def test_an_mp4_file_holds_its_length(tmp_path, version, times, width):
    ticks = (1000).to_bytes(4, "big") + (2500).to_bytes(width, "big")
    head = box(b"mvhd", version + bytes(3 + times) + ticks)
    path = tmp_path / "a.mp4"
    path.write_bytes(box(b"ftyp", b"isom") + box(b"moov", head))
    assert missing_s(path, frames=99, rate_hz=10, end_s=2.0) == pytest.approx(0.5)


def test_other_files_go_by_their_number_of_frames(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"RIFF....")
    assert missing_s(path, frames=20, rate_hz=10, end_s=1.5) == pytest.approx(0.5)
    path.write_bytes(b"\x1aE\xdf\xa3....")  # Matroska: half a second of tolerance
    assert missing_s(path, frames=20, rate_hz=10, end_s=1.5) == pytest.approx(0)
    path.write_bytes(box(b"ftyp", b"isom"))  # without a header it counts frames, too
    assert missing_s(path, frames=20, rate_hz=10, end_s=2.0) == pytest.approx(-0.5)
