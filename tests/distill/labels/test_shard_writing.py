import hashlib
import io
import json
import tarfile
from pathlib import Path

import fsspec
import pytest

from edgedetr.distill.labels.frames import CheckedFrame, LabelledObject
from edgedetr.distill.labels.shard_files import read_indices, read_listing, read_range
from edgedetr.distill.labels.shard_writing import entry_of, write_set
from edgedetr.runtime.errors import DataError


def frames(folder, *names):
    found = []
    for number, name in enumerate(names):
        path = folder / f"{number}.PNG"
        path.write_bytes(f"picture {number}".encode() * (number + 1))
        found.append(CheckedFrame(path, name, (8, 6), [LabelledObject("car", (0, 1, 2.5, 3))]))
    return found


def test_a_tar_holds_what_webdataset_wants_and_its_index_where(tmp_path):
    write_set(tmp_path / "set", {"train": frames(tmp_path, "a", "b.1")}, ("car",))
    data = (tmp_path / "set" / "train-000000.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == ["a.png", "a.json", "b_1.png", "b_1.json"]
        file = tar.extractfile("b_1.json")
        assert file is not None
        label = json.loads(file.read())
    assert label == {
        "name": "b.1",
        "hw": [8, 6],
        "objects": [{"class": "car", "box": [0.0, 1.0, 2.5, 3.0]}],
    }
    listing = read_listing(tmp_path / "set")
    assert listing.class_names == ("car",)
    [(_, entries, problem)] = read_indices(tmp_path / "set", listing.splits["train"])
    assert problem == ""
    for entry, number in zip(entries, (0, 1), strict=True):
        path = tmp_path / "set" / "train-000000.tar"
        found = read_range(path, entry["offset"], entry["size"])
        assert found == f"picture {number}".encode() * (number + 1)
        assert entry["sha256"] == hashlib.sha256(found).hexdigest()


def test_shards_end_at_their_size_and_equal_frames_give_equal_bytes(tmp_path):
    given = {"train": frames(tmp_path, "a", "b", "c"), "val": []}
    for out in ("one", "two"):
        write_set(tmp_path / out, given, ("car",), shard_bytes=20)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    tars = [name for name in names if name.endswith(".tar")]
    assert tars == ["train-000000.tar", "train-000001.tar"]
    assert list(read_listing(tmp_path / "one").splits) == ["train"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_set_is_written_to_a_url(tmp_path):
    write_set(Path("memory://shard_writing/set"), {"train": frames(tmp_path, "a")}, ("car",))
    names = fsspec.filesystem("memory").ls("/shard_writing/set", detail=False)
    assert sorted(Path(name).name for name in names) == [
        "shards.json",
        "train-000000.index.json",
        "train-000000.tar",
    ]


def test_two_names_with_one_key_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"'a_1' and 'a\.1' would have the same key"):
        write_set(tmp_path / "set", {"train": frames(tmp_path, "a.1", "a_1")}, ("car",))


def test_an_object_says_more_only_where_there_is_more():
    rows = [LabelledObject("car", (0, 0, 1, 1), True, 0.25, 2), LabelledObject("car", (0, 0, 1, 1))]
    assert entry_of(rows, (1, 2))["objects"] == [
        {"class": "car", "box": [0, 0, 1, 1], "ignored": True, "truncation": 0.25, "occlusion": 2},
        {"class": "car", "box": [0, 0, 1, 1]},
    ]
