from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgedetr.distill.data import open_dataset, split_images
from edgedetr.distill.data.yolo import read
from edgedetr.distill.dataset_survey import survey
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Write = Callable[[Path], Path]

YAML = "train: images/train\nnames: [car, person]\n"


def folder(root: Path, write_image: Write, text: str, yaml: str | None = YAML) -> Path:
    """A data set of two images of 100 x 80 px; the second has no label file."""
    for name in ("a", "b"):
        write_image(root / "images" / "train" / f"{name}.png")
    labels = root / "labels" / "train" / "a.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text(text, encoding="utf-8")
    if yaml is not None:
        (root / "data.yaml").write_text(yaml, encoding="utf-8")
    return root


def test_shares_become_pixels_and_polygons_their_outer_box(
    tmp_path: Path, write_image: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "1 0.5 0.5 0.2 0.25\n\n0 0.1 0.2 0.3 0.2 0.3 0.6\n"
    dataset = open_dataset("yolo", folder(tmp_path, write_image, text), "train", ("car", "person"))
    assert dataset.ids == ("a", "b")
    truth = dataset.truths[0]
    assert truth.labels.tolist() == [1, 0]
    assert truth.boxes.ravel().tolist() == pytest.approx([40, 30, 60, 50, 10, 16, 30, 48])
    assert "1 image without a label file, taken as without objects" in capsys.readouterr().err


def test_labels_without_an_image_are_counted(tmp_path: Path, write_image: Write) -> None:
    root = folder(tmp_path, write_image, "1 0.5 0.5 0.2 0.25\n")
    (root / "labels" / "train" / "lost.txt").write_text("", encoding="utf-8")
    (root / "labels" / "train" / "classes.txt").write_text("car\n", encoding="utf-8")
    notes = survey(root).notes
    assert f"{root}: 1 label file without an image, such as lost.txt" in notes


def test_without_names_classes_are_their_numbers(tmp_path: Path, write_image: Write) -> None:
    root = folder(tmp_path, write_image, "3 0.5 0.5 0.2 0.25\n", None)
    assert read(root, "train").class_names == ("0", "1", "2", "3")
    (root / "classes.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
    assert read(root, "train").frames[0].objects[0].name == "d"


@pytest.mark.parametrize(
    "yaml",
    [
        "train: ../train/images\nnames:\n  0: car\n",  # as Roboflow writes it
        "path: /of/another/machine\ntrain: train/images\nnc: 1\nnames: [car]\n",
        "train: [train/images]\nnames: [car]\n",
        "train: train.txt\nnames: [car]\n",
        None,
    ],
)
def test_where_images_lie(tmp_path: Path, write_image: Write, yaml: str | None) -> None:
    image = write_image(tmp_path / "train" / "images" / "a.jpg")
    (tmp_path / "train" / "labels").mkdir()
    (tmp_path / "train" / "labels" / "a.txt").write_text("0 .5 .5 .5 .5\n", encoding="utf-8")
    (tmp_path / "train.txt").write_text("./train/images/a.jpg\n", encoding="utf-8")
    if yaml:
        (tmp_path / "data.yaml").write_text(yaml, encoding="utf-8")
    assert split_images(tmp_path, "train", "yolo") == [image]
    assert len(read(tmp_path, "train").frames[0].objects) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2", "found 4 columns, wanted class cx cy w h"),
        ("0 0.5 0.5 0.2 0.2 0.9", "found 6 columns"),
        ("0 50 40 20 20", "found '50', wanted a share of the image"),
        ("0 nan 0.5 0.2 0.2", "found 'nan', wanted a share"),
        ("0 0.5 -0.5 0.2 0.2", "found '-0.5', wanted a share"),
        ("2 0.5 0.5 0.2 0.2", "class 2, but there are 2 names"),
        ("car 0.5 0.5 0.2 0.2", "class 'car', wanted the number of one"),
        ("1.5 0.5 0.5 0.2 0.2", "class '1.5', wanted the number of one"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, write_image: Write, line: str, message: str) -> None:
    root = folder(tmp_path, write_image, f"0 0.5 0.5 0.2 0.2\n{line}\n")
    with pytest.raises(DataError, match=rf"a\.txt:2: {message}"):
        open_dataset("yolo", root, "train", ("car",))
    (problem,) = survey(root).problems
    assert message in problem


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("names: [car\n", "not a readable YAML file"),
        ("train: images/train\n", "no names of classes"),
        ("- car\n", "no names of classes"),
        ("names: car\n", "wanted a list of class names"),
        ("names: [car, no]\n", "wanted a list of class names"),
        ("names: [car, car]\n", "a class twice"),
        ("names: {0: car, 2: bus}\n", "wanted 0, 1"),
        ("nc: 3\nnames: [car]\n", "nc is 3, but there are 1 names"),
        ("train: 5\nnames: [car]\n", "wanted a folder or a list of images"),
        ("train: nowhere\nnames: [car]\n", "no such folder of images"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]\n", "has aliases"),
        ("names: !!python/object/apply:os.system [id]\n", "not a readable YAML file"),
    ],
)
def test_a_bad_data_yaml_is_one_line(
    tmp_path: Path, write_image: Write, yaml: str, message: str
) -> None:
    root = folder(tmp_path, write_image, "0 0.5 0.5 0.2 0.2\n", yaml)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset("yolo", root, "train", ("car",))
    assert "\n" not in str(caught.value)


def test_images_without_any_labels_are_refused(tmp_path: Path, write_image: Write) -> None:
    root = folder(tmp_path, write_image, "")
    (root / "labels" / "train" / "a.txt").unlink()
    with pytest.raises(DataError, match=r"no image of train has labels; wanted .*labels.train.a"):
        open_dataset("yolo", root, "train", ("car",))
