import pytest

from edgedetr.distill.dataset_shards import write_shards
from edgedetr.runtime.errors import DataError, UsageError


def test_a_folder_that_holds_something_is_refused(kitti, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").touch()
    with pytest.raises(UsageError, match="not an empty folder"):
        write_shards(kitti, tmp_path / "out", None, 1 << 20)


def test_a_url_that_holds_shards_is_refused(kitti):
    url = "memory://dataset_shards/set"
    found = write_shards(kitti, url, None, 1 << 20)
    assert found.frames == {"train": 4, "val": 2}
    assert found.objects == 5
    with pytest.raises(UsageError, match="memory://dataset_shards/set holds shards"):
        write_shards(kitti, url, None, 1 << 20)


def test_a_bad_label_writes_nothing(kitti, tmp_path):
    (kitti / "training/label_2/000001.txt").write_text("Car\n")
    with pytest.raises(DataError, match="see edgedetr data check"):
        write_shards(kitti, tmp_path / "out", None, 1 << 20)
    assert not (tmp_path / "out").exists()
