from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgedetr.distill.data import open_dataset
from edgedetr.distill.dataset_survey import survey
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Write = Callable[[Path], Path]

OBJECT = (
    "<object><name>car</name><truncated>1</truncated><difficult>{}</difficult>"
    "<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>40</xmax><ymax>65</ymax></bndbox></object>"
)
SIZE = "<size><width>100</width><height>80</height><depth>3</depth></size>"


def folder(root: Path, write_image: Write, text: str) -> Path:
    write_image(root / "JPEGImages" / "a.jpg")
    for path, content in {
        "Annotations/a.xml": text,
        "ImageSets/Main/train.txt": "a  1\n",  # lists of one class have a flag
    }.items():
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text(content, encoding="utf-8")
    return root


def test_corners_count_from_1_and_difficult_objects_are_ignored(
    tmp_path: Path, write_image: Write
) -> None:
    text = f"<annotation>{SIZE}{OBJECT.format(0)}{OBJECT.format(1)}</annotation>"
    folder(tmp_path / "VOC2012", write_image, text)
    truth = open_dataset("auto", tmp_path, "train", ("car",)).truths[0]
    assert truth.boxes.tolist() == [[10, 20, 40, 65]]
    assert truth.truncation.tolist() == [0.5]
    assert (truth.ignored.tolist(), truth.ignored_by.tolist()) == ([[10, 20, 40, 65]], [0])


def test_annotations_without_an_image_are_counted(tmp_path: Path, write_image: Write) -> None:
    text = f"<annotation>{SIZE}{OBJECT.format(0)}</annotation>"
    root = folder(tmp_path, write_image, text)
    assert survey(root).notes == []
    (root / "Annotations" / "lost.xml").write_text(text, encoding="utf-8")
    assert survey(root).notes == [f"{root}: 1 label file without an image, such as lost.xml"]


BOMB = (
    '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><annotation>'
    "<filename>&b;</filename></annotation>"
)
FETCHING = '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "declares a document type or an entity"),
        (FETCHING, "declares a document type or an entity"),
        ("<annotation>", "not readable XML"),
        ("", "not readable XML"),
        ("<html/>", "not a VOC annotation but <html>"),
        ("<annotation><object/></annotation>", "object 1: no bndbox"),
        (f"<annotation>{OBJECT.format(2)}</annotation>", "object 1: difficult '2', wanted 0 or 1"),
        (
            f"<annotation>{OBJECT.format(0).replace('>40<', '>wide<')}</annotation>",
            "object 1: 'wide', wanted finite numbers",
        ),
        (
            f"<annotation>{OBJECT.format(0).replace('>car<', '> <')}</annotation>",
            "name '', wanted printable text",
        ),
        ("<annotation><size><width>9</width></size></annotation>", "None, wanted a whole number"),
        (f"<annotation>{SIZE.replace('100', '99')}</annotation>", "has 99 x 80; the boxes are of"),
    ],
)
def test_a_bad_annotation_is_one_line(
    tmp_path: Path, write_image: Write, text: str, message: str
) -> None:
    root = folder(tmp_path, write_image, text)
    with pytest.raises(DataError, match=r"a\.xml") as caught:
        open_dataset("voc", root, "train", ("car",))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(survey(root).problems) == 1


def test_several_years_in_one_folder_are_refused(tmp_path: Path, write_image: Write) -> None:
    for year in ("VOC2007", "VOC2012"):
        folder(tmp_path / year, write_image, f"<annotation>{SIZE}</annotation>")
    with pytest.raises(DataError, match="VOC2007 and VOC2012 may each be meant"):
        open_dataset("voc", tmp_path, "train", ("car",))


def test_lists_that_name_no_image_are_refused(tmp_path: Path, write_image: Write) -> None:
    root = folder(tmp_path, write_image, f"<annotation>{SIZE}</annotation>")
    listing = root / "ImageSets" / "Main" / "train.txt"
    listing.write_text("a\nb\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.txt: the list names 'b', which has no image"):
        open_dataset("voc", root, "train", ("car",))
    listing.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="the list is empty"):
        open_dataset("voc", root, "train", ("car",))


def test_torchvision_reads_the_same_corners(tmp_path: Path, write_image: Write) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    text = f"<annotation>{SIZE}{OBJECT.format(0)}</annotation>"
    root = folder(tmp_path / "VOCdevkit" / "VOC2012", write_image, text)
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\n", encoding="utf-8")
    _, target = datasets.VOCDetection(tmp_path, "2012", "train")[0]
    box = {k: int(v) for k, v in target["annotation"]["object"][0]["bndbox"].items()}
    (mine,) = open_dataset("voc", root, "train", ("car",)).truths[0].boxes.tolist()
    assert mine == [box["xmin"] - 1, box["ymin"] - 1, box["xmax"], box["ymax"]]
