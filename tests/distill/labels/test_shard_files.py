import json
import os
from pathlib import Path

import fsspec
import pytest

from edgedetr.distill.labels.shard_files import (
    Shard,
    is_remote,
    is_there,
    location,
    member,
    read_indices,
    read_listing,
    read_range,
    read_whole,
    shards_of,
    size_of,
)
from edgedetr.runtime.errors import DataError


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("memory://a/b.tar", "memory://a/b.tar"),
        ("s3://bucket/set/", "s3://bucket/set"),
        ("simplecache::s3://bucket/set", "simplecache::s3://bucket/set"),
    ],
)
def test_a_path_of_a_url_stands_for_it(given, url):
    assert location(Path(given)) == url
    assert is_remote(Path(given))


def test_a_local_url_is_a_path(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    path = Path(f"file://{tmp_path}/a")
    assert not is_remote(path)
    assert read_range(path, 1, 3) == b"234"
    assert size_of(path) == 5
    assert is_there(path)
    assert not is_there(path.with_name("b"))


def test_a_part_is_read_from_memory_and_through_a_cache():
    fsspec.filesystem("memory").pipe_file("/shard_files/a", b"0123456789")
    for url in ("memory://shard_files/a", "simplecache::memory://shard_files/a"):
        assert read_range(Path(url), 3, 4) == b"3456"
        with pytest.raises(DataError, match="ends at byte 10"):
            read_range(Path(url), 8, 4)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://shard_files/none", "no such file"),
        ("nosuch://bucket/a", "cannot be read: Protocol not known: nosuch"),
        ("sftp://host/a", "its file system is not installed"),
    ],
)
def test_what_cannot_be_reached_is_one_line(url, message):
    with pytest.raises(DataError, match=message) as caught:
        size_of(Path(url))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("offset", "size"), [(0, 10**12), (-1, 3), (10**30, 3), (0, -1)])
def test_no_part_is_larger_than_a_picture(tmp_path, offset, size):
    (tmp_path / "a.tar").write_bytes(b"123")
    with pytest.raises(DataError, match=f"{size} bytes from {offset} on are no picture"):
        read_range(tmp_path / "a.tar", offset, size)


def test_what_never_ends_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "a.tar")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="no regular file; wanted a tar"):
        read_range(tmp_path / "a.tar", 0, 3)
    for name in ("a.tar", "zero"):
        with pytest.raises(DataError, match="cannot be read: it is no regular file"):
            read_whole(tmp_path / name)


def test_a_member_whose_bytes_changed_is_refused(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"--picture--")
    digest = "0ef6b9c1d7f0d3c67b08bc1ab3b23de1ec6efbf7b4b1f50d6e5ea2ffd0a1bd1e"
    path = member(tmp_path / "a.tar", "x.png", (2, 7), digest, (4, 6))
    assert (path.name, path.suffix, path.shard, path.hw) == ("x.png", ".png", path.parent, (4, 6))
    with pytest.raises(DataError, match=r"a\.tar/x\.png: its bytes are not those of the index"):
        path.read()
    (tmp_path / "a.tar").unlink()
    with pytest.raises(DataError, match=r"a\.tar: cannot be read: No such file"):
        path.read()


def test_shards_are_numbered_and_files_have_none(tmp_path):
    paths = [
        member(tmp_path / tar, file, (0, 1), "", (1, 1))
        for tar, file in (("b.tar", "1"), ("a.tar", "2"), ("b.tar", "3"))
    ]
    numbers = shards_of(paths)
    assert numbers is not None
    assert numbers.tolist() == [0, 1, 0]
    assert shards_of([tmp_path / "1.png"]) is None


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"splits": {"train": [{"name": "../a.tar", "frames": 1, "size": 1}]}},
        {"splits": []},
        {"classes": 3},
    ],
)
def test_a_listing_that_is_none_is_one_line(tmp_path, change):
    values = {"version": 1, "classes": ["car"], "splits": {}} | change
    (tmp_path / "shards.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"shards\.json: no listing of shards"):
        read_listing(tmp_path)


def test_a_missing_and_a_cut_shard_are_said(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"123")
    (tmp_path / "a.index.json").write_text('{"frames": []}')
    found = read_indices(tmp_path, [Shard("a.tar", 0, 4), Shard("b.tar", 0, 4)])
    assert [problem for _, _, problem in found] == [
        f"{tmp_path}/a.tar: 3 bytes, wanted 4; 0 frames wanted; write the shard again",
        f"{tmp_path}/b.index.json: no such file",
    ]
