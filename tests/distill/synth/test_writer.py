from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

from edgedetr.distill.cli import data
from edgedetr.distill.data import open_dataset
from edgedetr.distill.dataset_survey import survey
from edgedetr.distill.labels.kitti_files import read_labels
from edgedetr.distill.synth.camera import Camera, Pose
from edgedetr.distill.synth.paint import Silhouette
from edgedetr.distill.synth.render import MAX_TRUNCATION, MIN_HEIGHT_PX, MIN_VISIBLE, Seen
from edgedetr.distill.synth.scene import Actor
from edgedetr.distill.synth.writer import label_line, write_synth
from edgedetr.runtime.errors import DataError, UsageError
from edgedetr.runtime.images import read_image

if TYPE_CHECKING:
    from pathlib import Path

CAMERA = Camera(focal_px=700, cx_px=600, cy_px=170, height_m=1.6, hw=(375, 1242))


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("height", "visible", "outside", "start"),
    [
        (MIN_HEIGHT_PX, 0.9, 0.0, "Car 0.00 0 "),
        (MIN_HEIGHT_PX, 0.84, 0.0, "Car 0.00 1 "),
        (MIN_HEIGHT_PX, 0.49, 0.0, "Car 0.00 2 "),
        (MIN_HEIGHT_PX, MIN_VISIBLE - 0.01, 0.0, "DontCare -1 -1 -10 "),
        (MIN_HEIGHT_PX - 1, 1.0, 0.0, "DontCare -1 -1 -10 "),
        (MIN_HEIGHT_PX, 1.0, MAX_TRUNCATION + 0.05, "DontCare -1 -1 -10 "),
    ],
)
def test_label_lines(height: int, visible: float, outside: float, start: str) -> None:
    mask = np.full((height, 30), 255, np.uint8)
    left = 0 - 30 * outside / (1 - outside)
    silhouette = Silhouette(0, 100, mask, (left, 100, 30, 100 + height))
    seen = Seen(
        Actor("Car", Pose(3.0, 30.0, 0.5), (1.5, 1.7, 4.2)),
        silhouette,
        1,
        visible,
        (3, 105, 9, 110),
    )
    line = label_line(seen, CAMERA)
    assert line.startswith(start)
    assert len(line.split()) == 15
    if start.startswith("DontCare"):
        assert line.split()[4:8] == ["3.00", "105.00", "9.00", "110.00"]
    else:
        assert line.split()[4:8] == ["0.00", "100.00", "30.00", f"{100 + height}.00"]
        assert line.split()[8:] == ["1.50", "1.70", "4.20", "3.00", "1.60", "30.00", "0.50"]


def test_same_seed_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    assert write_synth(tmp_path / "one", 6, 4, workers=1)
    assert write_synth(tmp_path / "two", 6, 4, workers=2)
    assert write_synth(tmp_path / "other", 6, 5, workers=1)
    one, two, other = (files(tmp_path / name) for name in ("one", "two", "other"))
    assert len(one) == 6 * 3 + 3 + 1
    assert one == two
    assert one["training/image_2/000000.png"] != other["training/image_2/000000.png"]


def test_what_was_written_is_a_sound_kitti_folder(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_synth(root, 10, 1, workers=1)
    found = survey(root)
    assert found.problems == []
    assert found.frames == 10
    classes = ("Car", "Pedestrian", "Cyclist")
    assert [len(open_dataset("kitti", root, s, classes)) for s in ("train", "val", "all")] == [
        8,
        2,
        10,
    ]
    assert read_image(root / "training" / "image_2" / "000000.png").shape == (375, 1242, 3)
    lines = (root / "training" / "calib" / "000000.txt").read_text().splitlines()
    projection = np.array(lines[2].split()[1:], float).reshape(3, 4)
    objects = read_labels(root / "training" / "label_2" / "000000.txt")
    wanted = objects.types != "DontCare"
    assert wanted.any()
    foot = np.concatenate([objects.location[wanted], np.ones((wanted.sum(), 1))], 1) @ projection.T
    x0, x1 = objects.boxes[wanted][:, 0], objects.boxes[wanted][:, 2]
    inside = (foot[:, 0] / foot[:, 2] > x0 - 2) & (foot[:, 0] / foot[:, 2] < x1 + 2)
    assert inside[objects.truncated[wanted] < 0.02].all()


def test_a_second_run_is_up_to_date_and_other_contents_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    assert write_synth(root, 2, 1, workers=1)
    before = files(root)
    again = CliRunner().invoke(data, ["synth", str(root), "--frames", "2", "--seed", "1"])
    assert "up to date" in again.output
    with pytest.raises(DataError, match=r'made with \{"frames": 2'):
        write_synth(root, 3, 1)
    assert files(root) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(DataError, match="holds other files"):
        write_synth(tmp_path / "mine", 2, 1)
    with pytest.raises(DataError, match="is a file"):
        write_synth(tmp_path / "mine" / "notes.txt", 2, 1)


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgedetr.distill.synth.writer.write_frame", stop)
    with pytest.raises(KeyboardInterrupt):
        write_synth(tmp_path / "set", 2, 1, workers=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("frames", "seed", "workers"), [(1, 0, 1), (2, -1, 1), (2, 0, 0)])
def test_impossible_requests_are_refused(
    tmp_path: Path, frames: int, seed: int, workers: int
) -> None:
    with pytest.raises(UsageError, match="wanted at least 2 frames"):
        write_synth(tmp_path / "set", frames, seed, workers)
