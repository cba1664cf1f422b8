from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edgedetr.distill.data import open_dataset
from edgedetr.distill.dataset_survey import survey
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CLASSES = ("Car", "Pedestrian", "Cyclist")
CAR = "Car 0.10 1 1.50 10.00 20.00 40.00 65.00 1.5 1.6 3.9 2.0 1.6 20.0 1.57"
DONT_CARE = "DontCare -1 -1 -10 50 5 60 15 -1 -1 -1 -1000 -1000 -1000 -10"


def folder(root: Path, labels: Mapping[str, str | None], **splits: str) -> Path:
    """Make a KITTI folder of grey 80 x 100 images with the given label texts."""
    for part in ("image_2", "label_2"):
        (root / "training" / part).mkdir(parents=True)
    (root / "ImageSets").mkdir()
    png = cv2.imencode(".png", np.full((80, 100, 3), 90, np.uint8))[1].tobytes()
    for name, text in labels.items():
        (root / "training" / "image_2" / f"{name}.png").write_bytes(png)
        if text is not None:
            (root / "training" / "label_2" / f"{name}.txt").write_text(text)
    for split, text in splits.items():
        (root / "ImageSets" / f"{split}.txt").write_text(text)
    return root


def test_dont_care_and_neutral_pairs_are_ignored_and_other_classes_background(
    tmp_path: Path,
) -> None:
    van, sitting, tram = (
        CAR.replace("Car", name).replace("10.00 20.00", corner)
        for name, corner in (("Van", "1 2"), ("Person_sitting", "3 4"), ("Tram", "5 6"))
    )
    root = folder(tmp_path, {"000007": f"{van}\n{CAR}\n{DONT_CARE}\n{sitting}\n{tram}\n"})
    dataset = open_dataset("kitti", root, "all", CLASSES)
    truth = dataset.truths[0]
    assert dataset.ids == ("000007",)
    assert truth.labels.tolist() == [0]
    assert truth.boxes.tolist() == [[10, 20, 40, 65]]
    assert truth.truncation.tolist() == [pytest.approx(0.1)]
    assert truth.occlusion.tolist() == [1]
    assert truth.difficulty().tolist() == [1]
    assert truth.ignored.tolist() == [[1, 2, 40, 65], [50, 5, 60, 15], [3, 4, 40, 65]]
    assert truth.ignored_by.tolist() == [0, -1, 1]
    everything = open_dataset("kitti", root, "all", CLASSES, "ignored").truths[0]
    assert everything.ignored_by.tolist() == [-1] * 4
    trams = open_dataset("kitti", root, "all", ("Tram",)).truths[0]
    assert trams.ignored.tolist() == [[50, 5, 60, 15]]  # a Van is neutral beside Car alone


def test_own_classes_are_trained_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = CAR.replace("Car", "sign_a"), CAR.replace("Car", "sign_b")
    root = folder(tmp_path, {"x": f"{a}\n{b}\n{b}\n"})
    truth = open_dataset("kitti", root, "all", ("sign_a",)).truths[0]
    assert truth.labels.tolist() == [0]
    assert truth.ignored.shape == (0, 4)
    assert "all has labels of other classes: sign_b 2" in capsys.readouterr().err
    assert survey(root).summary().endswith("3 objects: sign_a 1 sign_b 2; 0 problems")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (CAR.replace("Car", "car"), "type 'car', the class to train is 'Car'; spell both the same"),
        (CAR.replace("Car", "sign"), "no label has one of the classes Car, .*; found sign 1; set"),
    ],
)
def test_classes_that_no_label_has_are_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset("kitti", folder(tmp_path, {"a": f"{line}\n"}), "all", CLASSES)


def test_a_slip_of_the_pen_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder(tmp_path, {"a": f"{CAR}\n{CAR.replace('Car', 'Cra')}\n"})
    open_dataset("kitti", root, "all", CLASSES)
    assert "other classes: Cra 1" in capsys.readouterr().err
    assert survey(root).notes == [f"{root}: types that are not KITTI's: Cra 1"]


def test_byte_order_marks_and_hidden_files_do_not_matter(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": "", "b": ""})
    for part, text in (("training/label_2/a", f"{CAR}\n"), ("ImageSets/train", "a\nb\n")):
        (root / f"{part}.txt").write_text(text, encoding="utf-8-sig")
    for hidden in ("ImageSets/._train.txt", "training/image_2/._a.png"):
        (root / hidden).write_bytes(b"\x00\x05\x16\x07")
    dataset = open_dataset("kitti", root, "train", CLASSES)
    assert dataset.ids == ("a", "b")
    assert dataset.truths[0].labels.tolist() == [0]
    assert survey(root).problems == []


def test_labels_follow_the_class_names_given(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": f"{CAR}\n"})
    assert open_dataset("kitti", root, "all", ("Van", "Car")).truths[0].labels.tolist() == [1]


def test_splits_keep_their_order_and_images_are_read_when_asked(tmp_path: Path) -> None:
    labels = {"a": CAR, "b": "", "c": CAR}
    root = folder(tmp_path, labels, train="c\na\n", val="b\n")
    train = open_dataset("kitti", root, "train", CLASSES)
    assert train.ids == ("c", "a")
    assert train[1].frame.frame_id == "a"
    assert train[1].frame.image.shape == (80, 100, 3)
    assert train[1].frame.timestamp_ns > train[0].frame.timestamp_ns
    assert open_dataset("kitti", root, "all", CLASSES).ids == ("a", "b", "c")
    empty = open_dataset("kitti", root, "val", CLASSES)[0].truth
    assert empty.boxes.shape == (0, 4)
    assert empty.ignored.shape == (0, 4)


def test_boxes_partly_outside_are_clipped(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": CAR.replace("10.00 20.00 40.00 65.00", "-5 70 140 99")})
    assert open_dataset("kitti", root, "all", CLASSES).truths[0].boxes.tolist() == [
        [0, 70, 100, 80]
    ]


BAD_LINES = {
    "Car 0 0 1.5 10 20 40 65": "found 8 columns, wanted 15",
    f"{CAR} 0.5 7": "found 17 columns, wanted 15",
    f"{CAR} 0.5": "found 16 columns, the lines above have 15",
    CAR.replace("20.00", "nan"): "found 'nan', wanted a finite number",
    CAR.replace("20.00", "left"): "found 'left', wanted a finite number",
    CAR.replace("10.00 20.00 40.00 65.00", "40 20 40 65"): "has no area",
    CAR.replace("10.00 20.00 40.00 65.00", "10 65 40 20"): "has no area",
    CAR.replace("10.00 20.00 40.00 65.00", "100 20 140 65"): "outside the image of 100 x 80 px",
    CAR.replace("10.00 20.00 40.00 65.00", "-30 20 -2 65"): "outside the image of 100 x 80 px",
    CAR.replace("10.00", "1e300"): "found '1e300', wanted a finite number",
    CAR.replace("0.10 1 ", "0.10 0.5 "): "found the occlusion 0.5, wanted a whole number",
    CAR.replace("0.10 1 ", "0.10 7 "): "occlusion 7, wanted one of",
    CAR.replace("0.10 1 ", "1.10 1 "): "truncation 1.1, wanted a share",
}


@pytest.mark.parametrize(("line", "message"), BAD_LINES.items())
def test_a_bad_line_is_named_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    root = folder(tmp_path, {"a": f"{CAR}\n\n{line}\n"})
    with pytest.raises(DataError, match=r"a\.txt:3: ") as caught:
        open_dataset("kitti", root, "all", CLASSES)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        open_dataset("kitti", tmp_path / "nothing", "train", CLASSES)
    root = folder(tmp_path, {"a": CAR, "b": None}, train="a\nzz\n", val="\n")
    with pytest.raises(DataError, match=r"train\.txt:2: frame 'zz' has no image"):
        open_dataset("kitti", root, "train", CLASSES)
    with pytest.raises(DataError, match="the list is empty"):
        open_dataset("kitti", root, "val", CLASSES)
    with pytest.raises(DataError, match="did you mean 'train'"):
        open_dataset("kitti", root, "trian", CLASSES)
    with pytest.raises(DataError, match=r"b\.txt: no labels for b\.png"):
        open_dataset("kitti", root, "all", CLASSES)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no image"):
        open_dataset("kitti", folder(tmp_path, {}), "all", CLASSES)


def test_survey_reports_every_problem(tmp_path: Path) -> None:
    bad = "\n".join(BAD_LINES)
    labels = {"a": f"{CAR}\n{bad}\n{CAR}\n", "b": None, "c": "", "d": CAR, "e": "Car 1\n"}
    root = folder(tmp_path, labels, train="a\nzz\n")
    (root / "training" / "image_2" / "d.png").write_bytes(b"no image")
    (root / "training" / "image_2" / "e.png").write_bytes(b"")
    found = survey(root)
    lines = [p.removeprefix(f"{root}/").partition(": ")[0] for p in found.problems]
    assert lines == [
        "ImageSets/train.txt:2",
        *(f"training/label_2/a.txt:{n}" for n in range(2, 2 + len(BAD_LINES))),
        "training/label_2/b.txt",
        "training/image_2/d.png",
        "training/image_2/e.png",
        "training/label_2/e.txt:1",
    ]
    assert (found.frames, found.empty, found.classes.total()) == (1, 1, 0)


def test_real_frames_load(shared_data: Path) -> None:
    root = shared_data / "kitti"
    dataset = open_dataset("kitti", root, "all", CLASSES)
    labels = np.concatenate([t.labels for t in dataset.truths])
    assert len(dataset) == 80
    assert np.bincount(labels).tolist() == [223, 44, 15]
    ignored = open_dataset("kitti", root, "all", CLASSES, "ignored").truths
    assert sum(len(t.ignored) for t in ignored) == 197 + 4 + 5 + 10 + 11 + 26
    areas = np.concatenate([t.ignored_by for t in dataset.truths])
    assert np.unique(areas, return_counts=True)[1].tolist() == [197, 26, 5]
    assert [len(open_dataset("kitti", root, s, CLASSES)) for s in ("train", "val")] == [43, 37]
    assert dataset[3].frame.image.shape == (375, 1242, 3)
