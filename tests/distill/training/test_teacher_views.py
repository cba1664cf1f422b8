import json
from dataclasses import replace

import pytest
import torch

from edgedetr.distill import recipe
from edgedetr.distill.training.teacher_views import TeacherViews, teacher_views
from edgedetr.distill.types import Targets, into_frame, out_of_frame
from edgedetr.distill.weights.checkpoint import load_model, save_model
from edgedetr.runtime.spec import ModelSpec

SPEC = ModelSpec(input_hw=(64, 64), class_names=("Car",), resize="stretch")


def truth(**given):
    return Targets(
        torch.zeros(1, dtype=torch.long),
        torch.tensor([[0.5, 0.5, 0.5, 0.5]]),
        torch.zeros(0, 4),
        source_hw=(50, 100),
        **given,
    )


def test_models_of_one_frame_share_their_pixels():
    other = replace(SPEC, mean=(0.5, 0.5, 0.5), pad_value=0)
    assert teacher_views(SPEC, None) is None
    assert teacher_views(SPEC, other) is None
    assert teacher_views(replace(SPEC, resize="letterbox"), other) is not None


@pytest.mark.parametrize(
    ("hw", "finer"), [((128, 64), (2, 1)), ((32, 96), (1, 2)), ((640, 640), (4, 4))]
)
def test_pixels_are_as_fine_as_the_teacher_needs(hw, finer):
    views = teacher_views(SPEC, replace(SPEC, input_hw=hw))
    assert views is not None
    assert views.finer == finer
    assert views.fine(SPEC).input_hw == (64 * finer[0], 64 * finer[1])


def test_the_students_input_is_the_mean_of_the_finer_pixels():
    views = TeacherViews(SPEC, (2, 1))
    pixels = torch.tensor([[[10, 20], [30, 60]]], dtype=torch.uint8).expand(3, 2, 2)
    assert views.shrunk(pixels)[0].tolist() == [[20, 40]]
    assert TeacherViews(SPEC, (1, 1)).shrunk(pixels) is pixels


def test_a_letterboxing_teacher_sees_the_frame_in_its_own_shape():
    """A frame of 50 x 100 takes the upper half of 64 x 64; a box's y and height are halved."""
    letterbox = replace(SPEC, resize="letterbox", pad_value=7)
    pixels = torch.full((3, 64, 64), 200, dtype=torch.uint8)
    view = TeacherViews(letterbox, (1, 1)).view(pixels, truth())
    assert (view.pixels[:, :32] == 200).all()
    assert (view.pixels[:, 32:] == 7).all()
    assert view.frame.tolist() == [1.0, 0.5, 0.0, 0.0]
    moved = into_frame(truth().boxes[None], view.frame[None])
    torch.testing.assert_close(moved, torch.tensor([[[0.5, 0.25, 0.5, 0.25]]]))
    torch.testing.assert_close(out_of_frame(moved, view.frame[None]), truth().boxes[None])


def test_a_mirrored_letterbox_is_cut_out_where_it_lies():
    """A picture in the right half: x of 0.5 to 1 is all that a stretching teacher sees."""
    pixels = torch.zeros((3, 64, 64), dtype=torch.uint8)
    pixels[:, :, 32:] = 90
    targets = truth(picture=torch.tensor([[0.75, 0.5, 0.5, 1.0]]))
    view = TeacherViews(replace(SPEC, input_hw=(32, 32)), (1, 1)).view(pixels, targets)
    assert view.pixels.shape == (3, 32, 32)
    assert (view.pixels == 90).all()
    assert view.frame.tolist() == [2.0, 1.0, -1.0, 0.0]
    found = into_frame(torch.tensor([[[0.75, 0.5, 0.25, 0.5]]]), view.frame[None])
    torch.testing.assert_close(found, torch.tensor([[[0.5, 0.5, 0.5, 0.5]]]))


def test_a_part_beside_the_image_is_a_view_of_its_nearest_pixels():
    """A crop of what pads a shrunk picture: the image lies at its right edge, without width."""
    pixels = torch.full((3, 64, 64), 5, dtype=torch.uint8)
    targets = truth(picture=torch.tensor([[1.0, 0.5, 0.0, 1.0]]))
    view = TeacherViews(replace(SPEC, input_hw=(32, 32)), (1, 1)).view(pixels, targets)
    assert (view.pixels == 5).all()
    assert view.frame.tolist() == [64.0, 1.0, -63.0, 0.0]


@pytest.mark.slow
def test_a_student_learns_from_a_teacher_of_another_input(config, make_model, tmp_path, capsys):
    """Twice the resolution, letterboxed, with ImageNet's mean and std; students stretch."""
    spec = ModelSpec(
        (160, 192), config.data.classes, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    path = tmp_path / "teacher.safetensors"
    save_model(path, make_model(preset="edge-small", seed=4, spec=spec), command="a test")
    methods = ("clock", "kd_detr", "fgd")
    config = replace(config, teacher=str(path), methods=methods, epochs=1)
    data = replace(config.data, augment="mosaic+strong", scales=(1.0, 1.34))
    config = replace(config, data=replace(data, workers=1))
    metrics = recipe.train(config, tmp_path / "run", "a command")
    assert metrics["ap"] >= 0
    error = capsys.readouterr().err
    assert "the teacher's input differs: size 160 x 192 letterbox (student 64 x 96" in error
    line = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()[0]
    terms = json.loads(line)
    for name in ("clock_lcmd", "clock_tcld_giou", "kd_detr_specific_class", "fgd_foreground"):
        assert terms[name] > 0, name
    assert load_model(tmp_path / "run" / "student.safetensors").spec.mean == (0.0, 0.0, 0.0)
