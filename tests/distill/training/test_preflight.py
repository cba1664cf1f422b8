from dataclasses import replace

import numpy as np
import pytest
import torch

from edgedetr.distill import recipe
from edgedetr.distill.data import Truth, open_dataset
from edgedetr.distill.optimizer_config import OptimizerConfig
from edgedetr.distill.teacher_config import TeacherInputConfig
from edgedetr.distill.training.models import open_student, open_teacher
from edgedetr.distill.training.preflight import (
    capped_warmup,
    check_inputs,
    check_objects,
    check_query_counts,
    query_count,
    require_norms,
    warn_of_crowds,
)
from edgedetr.distill.weights.pretrained import freeze_batch_norms
from edgedetr.runtime.errors import DataError, UsageError


def truths(*counts):
    """The truth of frames with so many objects each."""
    return [
        Truth(
            np.zeros((n, 4), np.float32),
            np.zeros(n, np.int64),
            np.zeros(n, np.float32),
            np.zeros(n, np.int64),
            np.zeros((0, 4), np.float32),
        )
        for n in counts
    ]


@pytest.mark.parametrize(
    ("family", "preset", "queries"),
    [
        ("d_fine", "edge-micro", 40),
        ("rt_detr", "edge-tiny", 40),
        ("rt_detr_v2", "edge-small", 60),
        ("deimv2", "edge-tiny", 40),
        ("dino", "edge-tiny", 40),
    ],
)
def test_fewer_cells_than_queries_are_refused_with_both_numbers(
    make_model, family, preset, queries
):
    model = make_model(family, preset)
    model.network.train()
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    # strides 8, 16 and 32 of 32 x 32 pixels: 16 + 4 + 1 cells, and one of stride 64 where there is
    message = rf"{family}/{preset} at 32 x 32 \(H x W\): .* its {queries} queries .* has 2[12];"
    with pytest.raises(UsageError, match=message):
        query_count(model, (32, 32))
    assert query_count(model, (64, 96)) == queries
    assert model.network.training
    assert all(torch.equal(v, before[k]) for k, v in model.network.state_dict().items())


@pytest.mark.parametrize(
    ("family", "preset", "queries"),
    [
        ("fcos", "edge-small", None),
        ("dab_detr", "edge-tiny", 40),
        ("deformable_detr", "edge-tiny", 40),
    ],
)
def test_a_detector_that_chooses_no_cells_takes_any_input(make_model, family, preset, queries):
    assert query_count(make_model(family, preset), (32, 32)) == queries


@pytest.mark.parametrize(
    ("family", "preset"), [("fcos", "edge-small"), ("deformable_detr", "edge-tiny")]
)
def test_a_norm_that_would_see_one_value_is_refused(make_model, family, preset):
    model = make_model(family, preset)
    with pytest.raises(
        UsageError, match=rf"{family}/{preset} at 32 x 32 .* batch norm sees 1 value"
    ):
        require_norms(model, (32, 32), 1)
    require_norms(model, (32, 32), 2)
    require_norms(model, (128, 128), 1)
    freeze_batch_norms(model.network)
    require_norms(model, (32, 32), 1)


def test_a_small_input_is_refused_before_anything_is_trained(config, tmp_path):
    student = replace(config.student, family="d_fine", preset="nano", input_hw=(96, 320))
    with pytest.raises(UsageError, match=r"d_fine/nano at 96 x 320 .* 300 queries .* has 150;"):
        recipe.train(replace(config, student=student), tmp_path / "run", "a command")
    assert not (tmp_path / "run").exists()


def test_a_teacher_whose_input_is_too_small_for_it_is_refused(config, teacher):
    student = replace(config.student, preset="edge-micro", input_hw=(32, 64))
    small = TeacherInputConfig(input_hw=(32, 64))
    config = replace(config, student=student, teacher=str(teacher), teacher_input=small)
    student = open_student(config.student, config.data.classes)
    own = open_teacher(config.teacher_config)
    with pytest.raises(UsageError, match=r"d_fine/edge-small at 32 x 64 .* 60 queries .* has 42;"):
        check_query_counts(student, own)
    assert check_query_counts(student, None) == 40


def test_further_sizes_are_those_of_a_teacher_that_sees_the_same_pixels(config, teacher):
    student = replace(config.student, preset="edge-micro")
    config = replace(config, student=student, teacher=str(teacher))
    student = open_student(config.student, config.data.classes)
    split = open_dataset("kitti", config.data.root, "train", config.data.classes)
    same = TeacherInputConfig(input_hw=student.spec.input_hw, resize="stretch")
    for wanted in (same, replace(same, input_hw=(96, 96))):
        own = open_teacher(replace(config, teacher_input=wanted).teacher_config)
        if wanted is same:
            with pytest.raises(UsageError, match=r"d_fine/edge-small at 32 x 64 .* has 42;"):
                check_inputs(student, own, (split, split), 2, [(32, 64)])
        else:
            check_inputs(student, own, (split, split), 2, [(32, 64)])


def test_more_objects_than_queries_are_said_once(capsys):
    warn_of_crowds(truths(3, 41, 40, 0, 64), 40)
    error = capsys.readouterr().err
    assert error.startswith(
        "warning: 2 of 5 frames hold more objects (up to 64) than the student has queries (40)"
    )
    assert error.count("\n") == 1
    warn_of_crowds(truths(40), 40)
    warn_of_crowds(truths(400), None)
    assert capsys.readouterr().err == ""


def test_a_warmup_that_the_run_ends_before_is_capped_and_said(capsys):
    """A run of 60 steps warms up in 6 of them."""
    capped = capped_warmup(60, OptimizerConfig(warmup_steps=500))
    assert capped == OptimizerConfig(warmup_steps=6)
    assert (
        "warning: the run ends after 60 steps, before its warm-up of 500 does: "
        "optimizer.warmup_steps is taken as 6" in capsys.readouterr().err
    )
    assert capped_warmup(60, OptimizerConfig(warmup_steps=60)).warmup_steps == 6
    assert capped_warmup(1, OptimizerConfig(warmup_steps=1)).warmup_steps == 0
    capsys.readouterr()
    for steps, warmup in ((61, 60), (1, 0)):
        settings = OptimizerConfig(warmup_steps=warmup)
        assert capped_warmup(steps, settings) is settings
    assert capsys.readouterr().err == ""


def test_a_split_without_the_classes_is_refused(kitti):
    train, validation = (open_dataset("kitti", kitti, s, ("Tram",)) for s in ("train", "val"))
    with pytest.raises(DataError, match="training split of 4 frames holds no object of Tram; set"):
        check_objects(train, validation)


def test_a_class_without_objects_and_frames_of_both_splits_are_said(kitti, capsys):
    names = ("Car", "Tram")
    train, validation, every = (
        open_dataset("kitti", kitti, split, names) for split in ("train", "val", "all")
    )
    check_objects(train, validation)
    assert capsys.readouterr().err == (
        "warning: the training split holds no object of Tram: none will be found\n"
    )
    check_objects(train, every)
    assert "4 of 6 validation frames are training frames, too" in capsys.readouterr().err
