from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgedetr.distill.evaluation.kitti import (
    CLASSES,
    KittiScores,
    evaluate_kitti,
    evaluate_kitti_frames,
)
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.types import Detections

if TYPE_CHECKING:
    from collections.abc import Callable

Box = tuple[float, float, float, float]


@dataclass
class Label:
    type: str
    box: Box
    truncated: float = 0.0
    occluded: int = 0

    def line(self) -> str:
        box = " ".join(map(str, self.box))
        return f"{self.type} {self.truncated} {self.occluded} 0 {box} 1.5 1.6 3.9 1 1.6 20 0\n"


@dataclass
class Found:
    type: str
    box: Box
    score: float

    def line(self) -> str:
        box = " ".join(map(str, self.box))
        return f"{self.type} -1 -1 -10 {box} -1 -1 -1 -1000 -1000 -1000 -10 {self.score}\n"


Frame = tuple[list[Label], list[Found]]
CAR = (100.0, 100.0, 200.0, 200.0)
NONE = float("nan")
"""The figure where no label counts."""
AWAY = (500.0, 100.0, 600.0, 200.0)
"""A box that touches nothing else."""
LABEL_LINE = "Car 0.00 0 1.85 100.00 100.00 200.00 200.00 1.5 1.6 3.9 -16.5 2.4 58.5 1.6\n"
FOUND_LINE = "Car -1 -1 -10 100 100 200 200 -1 -1 -1 -1000 -1000 -1000 -10 0.9\n"


def score(frames: list[Frame]) -> KittiScores:
    with TemporaryDirectory() as name:
        for i, frame in enumerate(frames):
            for folder, rows in (("label_2", frame[0]), ("found", frame[1])):
                Path(name, folder).mkdir(exist_ok=True)
                Path(name, folder, f"{i:06d}.txt").write_text("".join(row.line() for row in rows))
        return evaluate_kitti(Path(name, "label_2"), Path(name, "found"))


def easy(frame: Frame, name: str = "Car") -> tuple[float, float]:
    """AP11 and AP40 of 41 frames like this one: 41 hits fill all 41 points of the curve."""
    scores = score([frame] * 41)
    row = CLASSES.index(name)
    return round(scores.ap11[row, 0], 6), round(scores.ap40[row, 0], 6)


def test_the_official_figures(shared_data: Path) -> None:
    folder = shared_data / "kitti_eval" / "object80"
    scores = evaluate_kitti(folder / "label_2", folder / "detections")
    lines = (folder / "expected.txt").read_text().splitlines()
    expected = np.array([line.split()[-3:] for line in lines if line[0] != "#"], float)
    np.testing.assert_allclose(scores.ap11, expected[:3], rtol=0, atol=1e-4)
    np.testing.assert_allclose(scores.ap40, expected[3:], rtol=0, atol=1e-4)
    assert scores.frames == 80
    assert scores.detections == 506


def test_every_label_found_is_100_per_cent() -> None:
    assert easy(([Label("Car", CAR)], [Found("Car", CAR, 0.9)])) == (100, 100)


def test_a_single_hit_fills_only_the_first_point() -> None:
    # One hit gives one threshold: precision 1 at point 0, 0 at the others. AP11 has point 0 among
    # its 11, AP40 does not have it.
    scores = score([([Label("Car", CAR)], [Found("Car", CAR, 0.9)])])
    assert scores.ap11[0] == pytest.approx([100 / 11] * 3)
    assert scores.ap40[0].tolist() == [0, 0, 0]


def test_a_false_alarm_for_each_hit_halves_the_precision() -> None:
    both = [Found("Car", CAR, 0.5), Found("Car", AWAY, 0.5)]
    assert easy(([Label("Car", CAR)], both)) == (50, 50)


def test_a_second_detection_of_an_object_is_a_false_alarm() -> None:
    twice = [Found("Car", CAR, 0.5), Found("Car", CAR, 0.5)]
    assert easy(([Label("Car", CAR)], twice)) == (50, 50)


def test_a_false_alarm_below_every_hit_costs_nothing() -> None:
    both = [Found("Car", CAR, 0.9), Found("Car", AWAY, 0.1)]
    assert easy(([Label("Car", CAR)], both)) == (100, 100)


def test_precision_is_made_monotone_from_the_right() -> None:
    # The best-scored detection of all is one false alarm: precision i / (i + 1) at the i-th hit, so
    # that 41/42 at the last point also holds at all points before it.
    frames = [([Label("Car", CAR)], [Found("Car", CAR, 0.9 - 0.01 * i)]) for i in range(41)]
    frames[0][1].append(Found("Car", AWAY, 0.99))
    assert score(frames).precision[0, 0] == pytest.approx([41 / 42] * 41)


def test_every_41st_of_the_recall_is_reached() -> None:
    frames = [([Label("Car", CAR)], [Found("Car", CAR, 0.9 - 0.01 * i)]) for i in range(41)]
    assert score(frames).recall[0, 0] == pytest.approx([(i + 1) / 41 for i in range(41)])


@pytest.mark.parametrize(
    ("type_", "name", "ap"),
    [
        ("Van", "Car", 100),
        ("van", "Car", 100),
        ("Truck", "Car", 50),
        ("Person_sitting", "Pedestrian", 100),
        ("Cyclist", "Pedestrian", 50),
        ("Van", "Pedestrian", 50),
        ("Person_sitting", "Car", 50),
    ],
)
def test_a_neighbouring_class_is_neutral_and_no_other(type_: str, name: str, ap: float) -> None:
    labels = [Label(name, CAR), Label(type_, AWAY)]
    assert easy((labels, [Found(name, CAR, 0.5), Found(name, AWAY, 0.5)]), name) == (ap, ap)


def test_a_missed_van_is_no_miss() -> None:
    assert easy(([Label("Car", CAR), Label("Van", AWAY)], [Found("Car", CAR, 0.5)])) == (100, 100)


def test_class_names_are_compared_without_case() -> None:
    assert easy(([Label("car", CAR)], [Found("CAR", CAR, 0.9)])) == (100, 100)


@pytest.mark.parametrize(
    ("name", "right", "ap"),
    [
        # The detection lies in the label's 100 x 100 px: its width is the overlap in per cent.
        ("Car", 170, 0),
        ("Car", 171, 100),
        ("Pedestrian", 150, 0),
        ("Pedestrian", 151, 100),
        ("Cyclist", 150, 0),
        ("Cyclist", 151, 100),
    ],
)
def test_an_overlap_must_exceed_the_limit(name: str, right: float, ap: float) -> None:
    found = Found(name, (100.0, 100.0, right, 200.0), 0.9)
    assert easy(([Label(name, CAR)], [found]), name) == (ap, ap)


@pytest.mark.parametrize(
    ("name", "right", "ap"),
    [
        # The detection AWAY is 100 px wide; the DontCare area covers its left part.
        ("Car", 570, 50),
        ("Car", 571, 100),
        ("Pedestrian", 550, 50),
        ("Pedestrian", 551, 100),
    ],
)
def test_a_dontcare_area_absorbs_what_lies_in_it(name: str, right: float, ap: float) -> None:
    # The area is far larger than the detection: what counts is the detection's own share.
    labels = [Label(name, CAR), Label("DontCare", (0.0, 0.0, right, 900.0))]
    labels[1].truncated, labels[1].occluded = -1, -1
    found = [Found(name, CAR, 0.5), Found(name, AWAY, 0.5)]
    # CAR lies in the area too, but has taken its label before.
    assert easy((labels, found), name) == (ap, ap)


@pytest.mark.parametrize(
    ("height", "ap11", "ap40"), [(39.9, NONE, NONE), (40.0, 100, NONE), (40.1, 100, 100)]
)
def test_the_builds_differ_at_exactly_the_least_height(
    height: float, ap11: float, ap40: float
) -> None:
    # The detection is 45 px high, overlap above 0.88: high enough itself.
    label = Label("Car", (100.0, 0.0, 200.0, height))
    found = Found("Car", (100.0, 0.0, 200.0, 45.0), 0.9)
    assert easy(([label], [found])) == pytest.approx((ap11, ap40), nan_ok=True)


@pytest.mark.parametrize(("height", "ap"), [(39.9, 0), (40.0, 100)])
def test_a_low_detection_is_no_hit(height: float, ap: float) -> None:
    label = Label("Car", (100.0, 0.0, 200.0, 45.0))
    found = Found("Car", (100.0, 0.0, 200.0, height), 0.9)
    assert easy(([label], [found])) == (ap, ap)


def test_a_low_detection_is_no_false_alarm() -> None:
    low = Found("Car", (500.0, 100.0, 600.0, 139.0), 0.5)
    scores = score([([Label("Car", CAR)], [Found("Car", CAR, 0.5), low])] * 41)
    assert scores.ap40[0] == pytest.approx([100, 50, 50])


@pytest.mark.parametrize(
    ("occluded", "truncated", "counts"),
    [
        (0, 0.15, (True, True, True)),
        (0, 0.16, (False, True, True)),
        (1, 0.30, (False, True, True)),
        (1, 0.31, (False, False, True)),
        (2, 0.50, (False, False, True)),
        (2, 0.51, (False, False, False)),
        (3, 0.00, (False, False, False)),
    ],
)
def test_occlusion_and_truncation_set_the_difficulty(
    occluded: int, truncated: float, counts: tuple[bool, bool, bool]
) -> None:
    frame = ([Label("Car", CAR, truncated, occluded)], [Found("Car", CAR, 0.9)])
    assert score([frame] * 41).ap40[0] == pytest.approx(
        [100.0 if c else NONE for c in counts], nan_ok=True
    )


def test_a_label_prefers_overlap_when_counting_and_score_when_choosing_thresholds() -> None:
    # Without a threshold the label takes B (score 0.9): that is the only threshold, and A is below
    # it. So B alone is counted, and hits.
    a = Found("Car", CAR, 0.5)
    b = Found("Car", (100.0, 100.0, 200.0, 190.0), 0.9)
    assert easy(([Label("Car", CAR)], [a, b])) == (100, 100)


def test_of_equal_overlaps_the_first_detection_is_taken() -> None:
    # A and B overlap the first label equally (90 of 110 px), B alone also the second (85 of 115).
    first, second = Label("Car", CAR), Label("Car", (125.0, 100.0, 225.0, 200.0))
    a = Found("Car", (90.0, 100.0, 190.0, 200.0), 0.9)
    b = Found("Car", (110.0, 100.0, 210.0, 200.0), 0.9)
    assert score([([first, second], [a, b])]).precision[0, 0, 0] == 1
    assert score([([first, second], [b, a])]).precision[0, 0, 0] == 0.5


def test_a_frame_without_labels_and_one_without_detections() -> None:
    frames = [([Label("Car", CAR)], [Found("Car", CAR, 0.5)])] * 41
    frames += [([], [Found("Car", CAR, 0.5)])] * 41 + [([], [])]
    assert score(frames).ap40[0] == pytest.approx([50, 50, 50])
    assert score([*frames[:41], ([Label("Car", CAR)], [])] * 2).ap40[0, 0] < 100


def test_nothing_at_all() -> None:
    scores = score([([], [])])
    assert np.isnan(scores.ap11).all()
    assert np.isnan(scores.ap40).all()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """41 frames, the car found in each."""
    labels, found = tmp_path / "label_2", tmp_path / "found"
    for folder, line in ((labels, LABEL_LINE), (found, FOUND_LINE)):
        folder.mkdir()
        for i in range(41):
            (folder / f"{i:06d}.txt").write_text(line)
    return labels, found


def test_frames_are_those_with_a_detection_file(folders: tuple[Path, Path]) -> None:
    labels, found = folders
    for i in range(100, 200):
        (labels / f"{i:06d}.txt").write_text(LABEL_LINE)
    assert evaluate_kitti(labels, found).ap40[0].tolist() == [100] * 3
    (found / "000100.txt").write_text("")
    scores = evaluate_kitti(labels, found)
    assert scores.frames == 42
    assert scores.ap40[0, 0] < 100


def test_detections_in_memory_score_like_files(folders: tuple[Path, Path]) -> None:
    labels, _ = folders
    # The class order is another one than KITTI's: 1 is the car.
    found = Detections(np.array([CAR], np.float32), np.ones(1, np.float32), np.ones(1, np.int64))
    nothing = Detections(
        np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    )
    paths = sorted(labels.iterdir())
    scores = evaluate_kitti_frames(paths, [found] * 41, ("Cyclist", "Car"))
    assert scores.ap40[0].tolist() == [100] * 3
    assert np.isnan(scores.ap40[1:]).all()
    empty = evaluate_kitti_frames(paths, [nothing] * 41, ("Cyclist", "Car"))
    assert empty.ap40[0].tolist() == [0] * 3


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda labels, _: labels.rename(labels.with_name("x")), "label_2: no such folder"),
        (lambda _, found: found.rename(found.with_name("x")), "found: no such folder"),
        (lambda _, found: [p.unlink() for p in found.iterdir()], "found: no *.txt in it"),
        (lambda labels, _: (labels / "000007.txt").unlink(), "000007.txt: no labels for this"),
        (
            lambda _, found: (found / "000007.txt").write_text(FOUND_LINE + "Car 1 2 3\n"),
            "000007.txt:2: found 4 columns",
        ),
        (
            lambda _, found: (found / "000007.txt").write_text(LABEL_LINE),
            "000007.txt:1: found 15 columns, wanted 16",
        ),
        (
            lambda labels, _: (labels / "000007.txt").write_text(LABEL_LINE.replace("1.85", "nan")),
            "000007.txt:1: found 'nan'",
        ),
        (
            lambda labels, _: (labels / "000007.txt").write_text(LABEL_LINE, encoding="utf-16"),
            "000007.txt: not a readable text file",
        ),
        (
            lambda _, found: (found / "000007.txt").write_text(FOUND_LINE.replace("0.9", "1e300")),
            "000007.txt:1: found '1e300', wanted a finite number",
        ),
        (lambda _, found: (found / "zzz.txt").write_text(FOUND_LINE), "zzz.txt: no labels for"),
        (
            lambda labels, _: make_pipe(labels / "000007.txt"),
            "000007.txt: no labels for this frame",
        ),
        (
            lambda _, found: make_pipe(found / "000007.txt"),
            "000007.txt: not a readable text file: it is no regular file",
        ),
    ],
)
def test_bad_input_is_one_clear_line(
    folders: tuple[Path, Path], break_it: Callable[[Path, Path], object], message: str
) -> None:
    break_it(*folders)
    with pytest.raises(DataError) as error:
        evaluate_kitti(*folders)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
