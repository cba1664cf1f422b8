import json


def test_a_data_set_becomes_shards_and_files_again(edgedetr, kitti, tmp_path):
    status, out, _ = edgedetr("data", "shards", kitti, "-o", tmp_path / "set", "--shard-mib", 1,
                              "--json", tmp_path / "s.json")  # fmt: skip
    assert status == 0
    found = json.loads((tmp_path / "s.json").read_text("utf-8"))
    assert (found["frames"], found["objects"]) == ({"train": 4, "val": 2}, 5)
    assert out == f"{tmp_path}/set: shards, frames: train 4, val 2; 5 objects\n"
    status, out, _ = edgedetr("data", "check", tmp_path / "set", "--decode")
    assert (status, out.splitlines()[-1].split(": ", 1)[1]) == (
        0,
        "6 good frames (1 empty), 5 objects: Car 5; 0 problems",
    )
    status, _, _ = edgedetr("data", "convert", tmp_path / "set", tmp_path / "new", "--to", "kitti",
                            "--json", tmp_path / "c.json")  # fmt: skip
    assert status == 0
    converted = json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert converted == {**found, "to": "kitti", "losses": {}, "notes": converted["notes"]}
    for folder in ("image_2", "label_2"):
        for path in sorted((kitti / "training" / folder).iterdir()):
            again = tmp_path / "new" / "training" / folder / path.name
            if folder == "image_2":
                assert again.read_bytes() == path.read_bytes()
            else:
                assert again.read_text().split()[:1] == path.read_text().split()[:1]


def test_a_file_system_that_is_not_there_is_one_line(edgedetr, kitti):
    status, _, err = edgedetr("data", "shards", kitti, "-o", "nosuch://bucket/set")
    assert status == 1
    assert err == (
        "edgedetr: nosuch://bucket/set/shards.json: cannot be read: Protocol not known: nosuch\n"
    )
