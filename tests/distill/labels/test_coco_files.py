import pytest

from edgedetr.distill.labels.coco_files import Source, find_sources
from edgedetr.runtime.errors import DataError


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}", encoding="utf-8")


@pytest.mark.parametrize(
    ("split", "name", "images"),
    [
        ("train", "train.json", "train"),
        ("val", "valid.json", "valid"),
        ("val", "val.json", "val"),
        ("valid", "valid.json", "valid"),
        ("val", "annotations/instances_val2017.json", "val2017"),
        ("all", "annotations/instances_train2017.json", "train2017"),
        ("mine.json", "mine.json", "mine"),
        ("instances_mine.json", "annotations/instances_mine.json", "mine"),
    ],
)
def test_a_split_is_a_file_and_the_folder_of_its_images(tmp_path, split, name, images):
    write(tmp_path, name, "._other.json")
    assert find_sources(tmp_path, split) == [Source(tmp_path / name, tmp_path / images)]


def test_all_is_both_splits(tmp_path):
    write(tmp_path, "train.json", "valid.json", "more.json")
    assert [source.path.stem for source in find_sources(tmp_path, "all")] == ["train", "valid"]


def test_one_of_several_files_must_be_named(tmp_path):
    write(tmp_path, "train.json", "annotations/instances_train2017.json")
    both = r"train.json and annotations/instances_train2017.json may each be meant"
    with pytest.raises(DataError, match=both):
        find_sources(tmp_path, "train")
    assert len(find_sources(tmp_path, "train.json")) == 1
    assert len(find_sources(tmp_path, "train2017")) == 1


def test_a_split_without_a_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no annotations for the split 'val'; wanted val\.json"):
        find_sources(tmp_path, "val")
    with pytest.raises(DataError, match="no such folder"):
        find_sources(tmp_path / "nothing", "val")
