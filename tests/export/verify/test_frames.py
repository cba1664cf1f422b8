import cv2
import numpy as np
import pytest

from edgedetr.export.verify.frames import ImageFiles, gate_images
from edgedetr.runtime.errors import DataError, UsageError


@pytest.fixture
def folder(tmp_path):
    """Eighty images, of which each is one grey: its number."""
    images = tmp_path / "kitti" / "training" / "image_2"
    images.mkdir(parents=True)
    for number in range(80):
        cv2.imwrite(str(images / f"{number:06}.png"), np.full((4, 6, 3), number, np.uint8))
    return images


@pytest.fixture
def kitti(folder):
    root = folder.parents[1]
    (root / "ImageSets").mkdir()
    for split, frames in {"train": range(0, 80, 2), "val": range(1, 80, 2)}.items():
        text = "".join(f"{frame:06}\n" for frame in frames)
        (root / "ImageSets" / f"{split}.txt").write_text(text, encoding="utf-8")
    return root


def numbers(paths):
    return [int(path.stem) for path in paths]


def test_all_images_in_an_order_that_is_always_the_same(folder):
    found = gate_images(folder, None, 400)
    assert sorted(numbers(found)) == list(range(80))
    assert found == gate_images(folder, None, 400)
    assert numbers(found) != sorted(numbers(found))


def test_the_first_of_them_are_spread_over_all(folder):
    """Of the first 20, some come from each quarter of the folder."""
    first = np.array(numbers(gate_images(folder, None, 400)[:20]))
    assert (np.bincount(first // 20, minlength=4) >= 2).all()


def test_fewer_are_evenly_spread_and_shuffled(folder):
    found = numbers(gate_images(folder, None, 20))
    assert sorted(found) == list(range(0, 80, 4))
    assert found != sorted(found)


def test_a_kitti_folder_gives_its_validation_split(kitti):
    assert sorted(numbers(gate_images(None, kitti, 400))) == list(range(1, 80, 2))
    assert sorted(numbers(gate_images(None, kitti, 10))) == list(range(1, 80, 8))


def test_one_image_is_as_good_as_a_folder(folder):
    assert gate_images(folder / "000007.png", None, 400) == [folder / "000007.png"]


def test_one_of_the_two_is_given(folder, kitti):
    for images, data in ((None, None), (folder, kitti)):
        with pytest.raises(UsageError, match="either --data ROOT or --images DIR"):
            gate_images(images, data, 400)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(DataError):
        gate_images(tmp_path, None, 400)


def test_image_files_are_read_one_by_one(folder):
    paths = [folder / "000003.png", folder / "000005.png"]
    files = ImageFiles(paths, "test")
    assert len(files) == 2
    assert [image[0, 0].tolist() for image in files] == [[3, 3, 3], [5, 5, 5]]
    assert [image.shape for image in files] == 2 * [(4, 6, 3)]  # and again, from the start
    paths[1].write_bytes(b"no image")
    frames = iter(files)
    assert next(frames)[0, 0, 0] == 3
    with pytest.raises(DataError, match=r"000005\.png"):
        next(frames)
