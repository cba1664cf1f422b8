"""The errors of the worst frames are drawn apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.bench.report.assemble import DataChoice, write_report
from edgedetr.bench.report.error_pictures import draw_errors
from edgedetr.distill.data.kitti import open_dataset

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_missed_and_what_is_found_stand_apart(run: Path, kitti_root: Path) -> None:
    report = write_report(run, DataChoice())
    dataset = open_dataset(kitti_root, "val", ("Car", "Pedestrian", "Cyclist"))
    pictures = draw_errors(dataset, report)
    assert len(pictures) == 4
    teacher, student = pictures[0]
    assert (teacher.name, student.name) == ("000000 teacher", "000000 student.int8")
    assert student.caption == "misses 1, 0 of nothing"
    shown = {layer.style: [box.text for box in layer.boxes] for layer in student.layers}
    # the pedestrian that is not there lies below the score that allows no false detection
    assert shown == {"c2": ["Car 0.98"], "wrong": [], "truth": ["Car"], "missed": ["Pedestrian"]}
    assert [layer.style for layer in teacher.layers if layer.boxes] == ["c0", "truth"]
