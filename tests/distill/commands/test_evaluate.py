"""What ``edgedetr evaluate`` prints and writes."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from edgedetr.distill.commands.evaluate import evaluate

LABEL_LINE = "Car 0.00 0 1.85 100.00 100.00 200.00 200.00 1.5 1.6 3.9 -16.5 2.4 58.5 1.6\n"
FOUND_LINE = "Car -1 -1 -10 100 100 200 200 -1 -1 -1 -1000 -1000 -1000 -10 0.9\n"


def invoke(group, *arguments):
    return CliRunner().invoke(group, [str(a) for a in arguments], standalone_mode=False)


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


def test_evaluate_tracks_writes_the_figures(tmp_path):
    (tmp_path / "label_02").mkdir()
    (tmp_path / "found").mkdir()
    tracked = "".join(f"{frame} 7 {LABEL_LINE}" for frame in range(3))
    (tmp_path / "label_02" / "0000.txt").write_text(tracked, encoding="utf-8")
    tracked = "".join(f"{frame} 1 {FOUND_LINE}" for frame in range(2))
    (tmp_path / "found" / "0000.txt").write_text(tracked, encoding="utf-8")
    out = tmp_path / "tracks.json"
    folders = ("--labels", tmp_path / "label_02", "--tracks", tmp_path / "found")
    result = invoke(evaluate, "tracks", *folders, "--json", out)
    # two of three boxes are found, at every overlap: DetA 2/3, and AssA 2/3
    car = next(line.split() for line in result.output.splitlines() if line.startswith("Car"))
    assert car == ["Car", *["0.667"] * 4, "1.000", "0.800", "2", "1", "0", "0"]
    assert "Pedestrian           -         -" in result.output
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures["sequences"] == ["0000"]
    assert figures["classes"]["Pedestrian"]["mota"] is None
