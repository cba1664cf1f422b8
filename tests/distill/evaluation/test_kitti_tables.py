from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.distill.evaluation.kitti_tables import read_label_table

if TYPE_CHECKING:
    from pathlib import Path

CAR = (100.0, 100.0, 200.0, 200.0)
LABEL_LINE = "Car 0.00 0 1.85 100.00 100.00 200.00 200.00 1.5 1.6 3.9 -16.5 2.4 58.5 1.6\n"
FOUND_LINE = "Car -1 -1 -10 100 100 200 200 -1 -1 -1 -1000 -1000 -1000 -10 0.9\n"


def test_label_table_numbers_the_frames(tmp_path: Path) -> None:
    texts = (LABEL_LINE, "", LABEL_LINE * 2)
    for i, text in enumerate(texts):
        (tmp_path / f"{i}.txt").write_text(text)
    table = read_label_table(sorted(tmp_path.iterdir()))
    assert table.frames.tolist() == [0, 2, 2]
    assert table.boxes.tolist() == [list(CAR)] * 3
