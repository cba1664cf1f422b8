"""The commands of the distillation stage: what they print, write and return."""

import json

from click.testing import CliRunner

from edgedetr.distill.cli import data


def invoke(group, *arguments):
    return CliRunner().invoke(group, [str(a) for a in arguments], standalone_mode=False)


def test_data_check_prints_counts_and_fails_on_problems(kitti, tmp_path):
    good = invoke(data, "check", kitti)
    assert good.return_value == 0
    assert "6 good frames (1 empty), 5 objects: Car 5; 0 problems" in good.output
    assert "moderate               5" in good.output
    (kitti / "training/label_2/000005.txt").write_text("Car\n", encoding="utf-8")
    out = tmp_path / "check.json"
    bad = invoke(data, "check", kitti, "--json", out)
    assert bad.return_value == 1
    values = json.loads(out.read_text(encoding="utf-8"))
    assert (values["frames"], len(values["problems"])) == (5, 1)
    assert set(values["objects"]) == {"Car"}
    assert "000005.txt:1: found 1 column, wanted 15" in bad.stderr
    assert "; 1 problem\n" in bad.output


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
