from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.distill.labels.kitti_files import read_labels

if TYPE_CHECKING:
    from pathlib import Path

CAR = "Car 0.10 1 1.50 10.00 20.00 40.00 65.00 1.5 1.6 3.9 2.0 1.6 20.0 1.57"
DONT_CARE = "DontCare -1 -1 -10 50 5 60 15 -1 -1 -1 -1000 -1000 -1000 -10"


def test_reads_every_column(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"{CAR}\n\n{DONT_CARE}\n")
    objects = read_labels(path)
    assert objects.types.tolist() == ["Car", "DontCare"]
    assert objects.truncated.tolist() == [0.1, -1]
    assert objects.occluded.tolist() == [1, -1]
    assert objects.alpha.tolist() == [1.5, -10]
    assert objects.boxes.tolist() == [[10, 20, 40, 65], [50, 5, 60, 15]]
    assert objects.dimensions[0].tolist() == [1.5, 1.6, 3.9]
    assert objects.location[0].tolist() == [2.0, 1.6, 20.0]
    assert objects.rotation_y[0] == 1.57
    assert objects.score is None


def test_reads_scores_and_empty_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"{CAR} 0.75\n")
    score = read_labels(path).score
    assert score is not None
    assert score.tolist() == [0.75]
    path.write_text("\n")
    assert len(read_labels(path)) == 0
    assert read_labels(path).boxes.shape == (0, 4)
