import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgedetr.distill import recipe
from edgedetr.distill.training.distillation_model import Trainee
from edgedetr.distill.training.loop import TrainingLoop
from edgedetr.distill.types import LossTerm
from edgedetr.runtime.errors import EdgeDetrError

GIOU = LossTerm("loss_giou")


def test_training_changes_the_student_and_lowers_the_loss(config, tmp_path):
    config = replace(config, epochs=12, eval_every=12)
    recipe.train(config, tmp_path / "run", "a command")
    lines = [json.loads(x) for x in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    losses = [x["loss"] for x in lines if x["kind"] == "step"]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


def test_batches_and_a_split_without_any_object_train_and_evaluate(config, kitti, tmp_path):
    for name, frames in {"train": "000000\n000005\n", "val": "000005\n"}.items():
        (kitti / f"ImageSets/{name}.txt").write_text(frames, encoding="utf-8")
    config = replace(config, batch_size=1)
    metrics = recipe.train(replace(config, epochs=1), tmp_path / "run", "a command")
    assert np.isnan(metrics["ap50"])
    assert json.loads((tmp_path / "run/metrics.json").read_text())["metrics"]["ap50"] is None


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_term(config, tmp_path, monkeypatch):
    real = Trainee.forward

    def broken(self, images, targets):
        detection, distillation = real(self, images, targets)
        return detection | {GIOU: detection[GIOU] * torch.nan}, distillation

    monkeypatch.setattr(Trainee, "forward", broken)
    with pytest.raises(
        EdgeDetrError, match=r"step 0: the loss is not finite \(loss_giou\) on frames 00000"
    ):
        recipe.train(config, tmp_path / "run", "a command")
    assert not (tmp_path / "run" / "student.safetensors").exists()


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_weights_are_lost(
    config, tmp_path, monkeypatch
):
    real = Trainee.forward

    def broken(self, images, targets):
        detection, distillation = real(self, images, targets)
        root = detection[GIOU].clamp(min=0) * 0  # sqrt'(0) is infinite, times 0 not a number
        return detection | {GIOU: detection[GIOU] + root.sqrt()}, distillation

    monkeypatch.setattr(Trainee, "forward", broken)
    with pytest.raises(
        EdgeDetrError, match=r"step 0: the loss is not finite \(gradient\) on frames"
    ):
        recipe.train(config, tmp_path / "run", "a command")


@pytest.mark.slow
def test_an_evaluation_that_a_kill_cut_short_is_made_up_for(config, tmp_path, monkeypatch):
    config = replace(config, epochs=2, eval_every=1)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_measure", stop)
        with pytest.raises(KeyboardInterrupt):
            recipe.train(config, tmp_path / "run", "a command")
    recipe.train(config, tmp_path / "run", "a command")
    lines = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    seen = [(r["kind"], r["epoch"]) for r in map(json.loads, lines)]
    epochs = [[("step", epoch), ("step", epoch), ("evaluation", epoch)] for epoch in (0, 1)]
    assert seen == [*epochs[0], *epochs[1]]


@pytest.mark.parametrize(
    ("family", "preset"),
    [
        ("d_fine", "edge-micro"),
        ("deimv2", "edge-tiny"),
        ("dab_detr", "edge-tiny"),
        ("faster_rcnn", "edge-small"),
        ("fcos", "edge-small"),
    ],
)
def test_a_run_that_diverges_is_one_line_and_goes_on_from_its_last_epoch(
    config, tmp_path, family, preset
):
    student = replace(config.student, family=family, preset=preset)
    optimizer = replace(config.optimizer, learning_rate=1e30, warmup_steps=0)
    config = replace(config, student=student, optimizer=optimizer, epochs=2)
    with pytest.raises(
        EdgeDetrError, match=r"step \d: the loss is not finite \(.+\) on frames 00000\d.*lower"
    ) as caught:
        recipe.train(config, tmp_path / "run", "a command")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", ["fcos", "faster_rcnn"])
def test_a_run_that_diverged_in_its_last_step_is_one_line_when_it_is_evaluated(
    config, tmp_path, family
):
    student = replace(config.student, family=family, preset="edge-small")
    optimizer = replace(config.optimizer, learning_rate=1e30, warmup_steps=0)
    config = replace(config, student=student, optimizer=optimizer, epochs=1, batch_size=4)
    with pytest.raises(EdgeDetrError, match=r"the student's .* are not finite on the validation"):
        recipe.train(config, tmp_path / "run", "a command")
    assert not (tmp_path / "run" / "student.safetensors").exists()
