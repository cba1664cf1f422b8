"""The commands of the distillation stage: what they print, write and return."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from edgedetr.distill.cli import data, evaluate

LABEL_LINE = "Car 0.00 0 1.85 100.00 100.00 200.00 200.00 1.5 1.6 3.9 -16.5 2.4 58.5 1.6\n"
FOUND_LINE = "Car -1 -1 -10 100 100 200 200 -1 -1 -1 -1000 -1000 -1000 -10 0.9\n"


def invoke(group, *arguments):
    return CliRunner().invoke(group, [str(a) for a in arguments], standalone_mode=False)


def test_data_check_prints_counts_and_fails_on_problems(kitti):
    good = invoke(data, "check", kitti)
    assert good.return_value == 0
    assert "6 good frames (1 empty), 5 objects: Car 5; 0 problems" in good.output
    assert "moderate               5" in good.output
    (kitti / "training/label_2/000005.txt").write_text("Car\n", encoding="utf-8")
    bad = invoke(data, "check", kitti)
    assert bad.return_value == 1
    assert "000005.txt:1: found 1 column, wanted 15" in bad.stderr
    assert "; 1 problem\n" in bad.output


def test_evaluate_kitti_writes_the_figures(tmp_path):
    for folder, line in (("labels", LABEL_LINE), ("found", FOUND_LINE)):
        (tmp_path / folder).mkdir()
        for index in range(41):
            (tmp_path / folder / f"{index:06d}.txt").write_text(line, encoding="utf-8")
    out = tmp_path / "scores.json"
    folders = ("--labels", tmp_path / "labels", "--detections", tmp_path / "found")
    result = invoke(evaluate, "kitti", *folders, "--json", out)
    assert "AP40 Car           100.000   100.000   100.000" in result.output
    assert "AP40 Cyclist             -         -         -" in result.output
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert set(figures) == {"AP11", "AP40", "frames", "detections", "notes", "curves", "seconds"}
    levels = ("easy", "moderate", "hard")
    for rule in ("AP11", "AP40"):
        assert figures[rule]["Car"] == dict.fromkeys(levels, 100.0)
        assert figures[rule]["Cyclist"] == dict.fromkeys(levels)
    assert figures["curves"]["Car"]["hard"]["precision"] == [1.0] * 41
    assert figures["seconds"] > 0


def test_evaluate_coco_writes_the_figures(tmp_path):
    box = [100.0, 100.0, 100.0, 100.0]
    truth = {
        "images": [{"id": 0, "file_name": "a.jpg"}],
        "categories": [{"id": 7, "name": "bus"}, {"id": 3, "name": "car"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 7, "bbox": box}],
    }
    found = [{"image_id": 0, "category_id": 7, "bbox": box, "score": 0.5}]
    for name, content in (("truth", truth), ("found", found)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    out = tmp_path / "scores.json"
    files = ("--truth", tmp_path / "truth.json", "--detections", tmp_path / "found.json")
    result = invoke(evaluate, "coco", *files, "--json", out)
    assert "bus                1.000   1.000" in result.output
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures["ap"] == pytest.approx(1)
    assert figures["per_class"]["car"] == {"ap": None, "ap50": None}
    assert figures["curves"]["bus"]["recall"][50] == 0.5
    assert np.mean(figures["curves"]["bus"]["precision"]) == pytest.approx(1)
    assert figures["seconds"] > 0


def test_data_check_shows_ten_of_each_kind_the_most_frequent_first(kitti):
    lines = "Car\n" * 12 + "Car 0 x 0 1 2 3 4 1 1 1 1 1 1 1\n"
    (kitti / "training/label_2/000005.txt").write_text(lines, encoding="utf-8")
    shown = invoke(data, "check", kitti, "--format", "kitti").stderr.splitlines()
    assert len(shown) == 12
    assert all(": found 1 column, wanted 15" in line for line in shown[:10])
    assert shown[10] == "and 2 more like it: ...: found # column, wanted # (# with a score)"
    assert "found 'x', wanted a finite number" in shown[11]


def test_data_convert_and_view_say_what_they_wrote(kitti, tmp_path):
    done = invoke(data, "convert", kitti, tmp_path / "coco", "--to", "coco")
    assert done.output.endswith("coco: coco, frames: train 4, val 2; 5 objects\n")
    assert "not read, and so not written: 3-D boxes" in done.stderr
    page = invoke(data, "view", tmp_path / "coco", "-o", tmp_path / "page.html", "--frames", 2)
    assert "page.html: 6 good frames (1 empty), 5 objects: Car 5; 0 problems" in page.output
