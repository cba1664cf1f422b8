import os
from pathlib import Path

import pytest

from edgedetr.distill.labels.frames import CheckedFrame
from edgedetr.distill.labels.writing import (
    one_word_names,
    place_image,
    require_own_names,
    rounded,
)
from edgedetr.runtime.errors import DataError


def test_rounded_numbers_are_integers_where_they_can_be():
    assert [rounded(v) for v in (5.0, 1 / 3, 2.00001)] == [5, 0.3333, 2]
    assert isinstance(rounded(5.0), int)


def test_an_image_is_linked_and_copied_where_no_link_can_be(tmp_path, monkeypatch):
    source = tmp_path / "a.png"
    source.write_bytes(b"pixels")
    place_image(source, tmp_path / "one" / "a.png")
    assert (tmp_path / "one" / "a.png").samefile(source)

    def refuse(*_):
        raise OSError(18, os.strerror(18))

    monkeypatch.setattr("edgedetr.distill.labels.writing.os.link", refuse)
    place_image(source, tmp_path / "two" / "a.png")
    assert (tmp_path / "two" / "a.png").read_bytes() == b"pixels"
    assert not (tmp_path / "two" / "a.png").samefile(source)


def test_a_full_disk_names_the_copy(tmp_path, monkeypatch):
    def no_link(*_):
        raise OSError(18, os.strerror(18))

    def full(source, _):
        raise OSError(28, os.strerror(28), str(source))

    monkeypatch.setattr("edgedetr.distill.labels.writing.os.link", no_link)
    monkeypatch.setattr("edgedetr.distill.labels.writing.shutil.copyfile", full)
    target = tmp_path / "new" / "a.png"
    with pytest.raises(OSError, match=r"No space left on device: '.*new/a\.png'"):
        place_image(tmp_path / "old.png", target)


def test_names_that_would_share_a_file_are_refused():
    frames = [CheckedFrame(Path(f"{folder}/a.png"), "a", (1, 1), []) for folder in "xy"]
    require_own_names(frames[:1])
    with pytest.raises(DataError, match=r"y.a\.png: the frame 'a' is also x.a\.png"):
        require_own_names(frames)
    with pytest.raises(DataError, match="would both be written 'a_b'"):
        one_word_names(["a b", "a_b"])
