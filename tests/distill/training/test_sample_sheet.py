from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from edgedetr.distill.picture import Picture
from edgedetr.distill.recipe import draw
from edgedetr.distill.training.sample_sheet import WHITE, drawn
from edgedetr.distill.types import Targets
from edgedetr.runtime.draw import class_colour


def test_sixteen_samples_are_drawn_the_same_each_time(config, tmp_path):
    """Two wide columns of four: six frames, so that the third epoch is reached."""
    data = replace(config.data, augment="mosaic+strong", scales=(1.0, 1.34))
    config = replace(config, data=data)
    for name in ("one", "two"):
        draw(config, tmp_path / f"{name}.png")
    sheet = cv2.imread(str(tmp_path / "one.png"))
    assert sheet is not None
    assert sheet.shape == (4 * (96 + 2), 4 * (128 + 2), 3)
    assert np.unique(sheet.reshape(-1, 3), axis=0).shape[0] > 10
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_boxes_and_ignored_areas_are_drawn_where_they_are():
    targets = Targets(
        torch.tensor([1]),
        torch.tensor([[0.25, 0.5, 0.25, 0.5]]),
        torch.tensor([[0.75, 0.5, 0.25, 0.5]]),
    )
    picture = Picture(torch.zeros(3, 64, 128, dtype=torch.uint8), targets)
    image = drawn(picture, ("Car", "Pedestrian"))[1:-1, 1:-1]
    assert tuple(image[47, 20]) == class_colour(1)
    assert tuple(image[30, 16]) == class_colour(1)
    assert tuple(image[16, 90]) == WHITE
    assert tuple(image[30, 111]) == WHITE


@pytest.mark.parametrize(("out", "file"), [("run", "run/samples.png"), ("s.png", "s.png")])
def test_the_command_draws_and_does_not_train(edgedetr, kitti, tmp_path, out, file):
    path = tmp_path / "c.toml"
    path.write_text(
        f'methods = ["none"]\n[data]\nroot = "{kitti}"\n[student]\ninput_hw = [64, 96]\n',
        encoding="utf-8",
    )
    status, said, _ = edgedetr("distill", "train", path, "--dry-run", "-o", tmp_path / out)
    assert status == 0
    assert said == f"{tmp_path / file}: what the run trains on first; nothing was trained\n"
    assert (tmp_path / file).stat().st_size > 1000
    assert not list(tmp_path.rglob("*.safetensors"))


def test_another_picture_format_is_refused(edgedetr, tmp_path, kitti):
    path = tmp_path / "run.toml"
    path.write_text(f'methods = ["none"]\n[data]\nroot = "{kitti}"\n', encoding="utf-8")
    status, _, error = edgedetr("distill", "train", path, "--dry-run", "-o", tmp_path / "q.jpg")
    assert status == 2
    assert "q.jpg: wanted a folder, or a name that ends in .png" in error
    assert not (tmp_path / "q.jpg").exists()
