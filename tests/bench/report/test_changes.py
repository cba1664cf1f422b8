"""What changed between two reports, as a table and notes."""

from edgedetr.bench.report.changes import changes
from edgedetr.bench.report.record import read_report


def test_figures_of_common_models_stand_side_by_side(report_json):
    old = read_report(report_json("old.json"))
    values = {"name": "student", "ap": 0.45, "latency_ms": {"p50": 4.0}}
    new = read_report(report_json("new.json", models=[values]))
    table = changes(old, new).splitlines()
    assert table[0].split() == ["model", "figure", "old", "new", "change"]
    assert table[1].split() == ["student", "ap", "0.4", "0.45", "+0.05", "(+12.5%)"]
    assert table[2].split() == ["student", "latency_ms.p50", "5", "4", "-1", "(-20.0%)"]
    assert table[3:] == [f"only in {old.path}: teacher"]


def test_what_cannot_be_compared_is_noted(report_json):
    old = read_report(report_json("old.json"))
    data = {"root": "data/other", "format": "coco", "split": "valid", "frames": 9}
    machine = {"processor": "B", "cores": 8}
    new = read_report(report_json("new.json", verdict="failed", data=data, machine=machine))
    assert changes(old, new).splitlines()[-3:] == [
        "the verdict was passed and is failed",
        "accuracy is of other frames: 180 of data/synth (kitti, val), then 9 of data/other "
        "(coco, valid)",
        "times are of other machines: A, 2 cores, then B, 8 cores",
    ]


def test_a_figure_that_was_zero_has_no_share(report_json):
    old = read_report(report_json("old.json", models=[{"name": "student", "ap": 0}]))
    new = read_report(report_json("new.json", models=[{"name": "student", "ap": 0.1}]))
    assert changes(old, new).splitlines()[1].split() == ["student", "ap", "0", "0.1", "+0.1"]
