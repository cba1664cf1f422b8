"""A run of quantization-aware training, from its config to its checkpoint."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgedetr.distill import recipe
from edgedetr.distill.config import load_config
from edgedetr.distill.networks.fake_quantization import (
    Quantization,
    QuantizedLayer,
    learnt_steps,
    simulated,
)
from edgedetr.distill.networks.reparameterize import reparameterize
from edgedetr.distill.qat_config import QatConfig
from edgedetr.distill.training.distillation_model import Trainee
from edgedetr.distill.training.loop import TrainingLoop
from edgedetr.distill.training.objective import distillation_of
from edgedetr.distill.weights.checkpoint import load_model, save_model
from edgedetr.export.qat import calibrated
from edgedetr.runtime.errors import SettingsError, UsageError

NORM = "model.backbone.model.embedder.stem2a.normalization"
LAYER = QuantizedLayer("model.backbone.model.embedder.stem2a.convolution", NORM, 0.01)
QUANTIZATION = Quantization((LAYER,), "", "", "mse", 99.99, 4, "")


@pytest.fixture
def quantized_config(config, teacher, make_model, tmp_path):
    """Settings of a run for INT8 under a teacher."""
    save_model(tmp_path / "init.safetensors", make_model(seed=9), command="a test")
    return replace(
        config,
        student=replace(config.student, init=str(tmp_path / "init.safetensors")),
        qat=QatConfig(enabled=True, frames=2),
        teacher=str(teacher),
        methods=("clock",),
        epochs=2,
        eval_every=1,
    )


def test_only_a_trained_student_is_trained_for_int8(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text('[data]\nroot = "x"\n', encoding="utf-8")
    with pytest.raises(SettingsError, match=r"name its checkpoint in student\.init"):
        load_config(path, ["qat.enabled=true"])
    with pytest.raises(SettingsError, match=r"qat\.frames must be at least 1"):
        load_config(path, ["qat.frames=0"])
    assert load_config(path, ["qat.enabled=true", "student.init=a"]).record()["qat"]["enabled"]
    assert "qat" not in load_config(path).record()


def test_without_the_export_stage_it_says_what_is_missing(quantized_config, tmp_path):
    with pytest.raises(UsageError, match=r"of the export stage.*edgedetr\[export\]"):
        recipe.train(quantized_config, tmp_path / "run", "a command")


def test_batch_norms_stay_as_they_are_while_a_quantized_student_trains(make_model, images, targets):
    from edgedetr.distill.config import MethodConfig
    from edgedetr.distill.methods import method

    model = make_model()
    config = MethodConfig("none", 1.0, 0.0, method("none").Settings())
    for quantization, live in ((QUANTIZATION, False), (None, True)):
        student = replace(model, quantization=quantization)
        trainee = Trainee(student, distillation_of([config], student, None)).train()
        assert model.network.get_submodule(NORM).training is live
        assert model.network.training
        before = model.network.get_buffer(f"{NORM}.running_mean").clone()
        trainee(images, targets)
        changed = not torch.equal(before, model.network.get_buffer(f"{NORM}.running_mean"))
        assert changed is live


@pytest.mark.slow
def test_a_run_for_int8_trains_evaluates_and_saves_the_student(
    quantized_config, tmp_path, monkeypatch
):
    seen = []

    def noted(network, quantization):
        seen.append(quantization)
        return simulated(network, quantization)

    monkeypatch.setattr("edgedetr.distill.evaluation.predict.simulated", noted)
    out = tmp_path / "run"
    recipe.train(quantized_config, out, "a command", calibrated)
    quantization = load_model(out / "student.safetensors").quantization
    assert quantization is not None
    assert len(quantization.layers) > 50
    assert quantization.frames == 2
    assert seen == [quantization] * 2
    start = load_model(Path(quantized_config.student.init)).network
    reparameterize(start)
    init, trained = start.state_dict(), load_model(out / "student.safetensors").network.state_dict()
    assert init.keys() == trained.keys()
    assert all(torch.equal(v, trained[k]) for k, v in init.items() if "running_" in k)
    conv = quantization.layers[-1].path
    assert not torch.equal(init[f"{conv}.weight"], trained[f"{conv}.weight"])
    assert json.loads((out / "metrics.json").read_text())["config"]["qat"]["enabled"]


@pytest.mark.slow
def test_a_killed_run_for_int8_goes_on_with_the_same_result(
    quantized_config, tmp_path, monkeypatch
):
    def calibrate(*_):
        return QUANTIZATION

    recipe.train(quantized_config, tmp_path / "whole", "a command", calibrate)
    real, calls = TrainingLoop._step, []

    def killed(self, *args):
        calls.append(args)
        if len(calls) == 4:  # the second step of the second epoch
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(TrainingLoop, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(quantized_config, tmp_path / "killed", "a command", calibrate)
    monkeypatch.setattr(TrainingLoop, "_step", real)  # and it is not calibrated again
    recipe.train(quantized_config, tmp_path / "killed", "a command")
    whole, then = (load_model(tmp_path / d / "student.safetensors") for d in ("whole", "killed"))
    assert then.quantization == whole.quantization == QUANTIZATION
    for key, value in whole.network.state_dict().items():
        assert torch.equal(value, then.network.state_dict()[key]), key


@pytest.mark.slow
def test_a_run_that_learns_steps_saves_them_and_goes_on_with_them(
    quantized_config, tmp_path, monkeypatch
):
    """They start at calibration, move, are evaluated and loaded, and resume like weights."""
    config = replace(quantized_config, qat=replace(quantized_config.qat, learn_steps=True))
    recipe.train(config, tmp_path / "whole", "a command", calibrated)
    whole = load_model(tmp_path / "whole" / "student.safetensors")
    steps = learnt_steps(whole.network)
    assert steps is not None
    assert steps.activations.abs().max() > 0
    assert steps.weights.abs().max() > 0
    real, calls = TrainingLoop._step, []

    def killed(self, *args):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(TrainingLoop, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(config, tmp_path / "killed", "a command", calibrated)
    monkeypatch.setattr(TrainingLoop, "_step", real)
    recipe.train(config, tmp_path / "killed", "a command")
    then = load_model(tmp_path / "killed" / "student.safetensors").network.state_dict()
    assert all(torch.equal(v, then[k]) for k, v in whole.network.state_dict().items())
    again = replace(
        config, student=replace(config.student, init=str(tmp_path / "whole/student.safetensors"))
    )
    recipe.train(replace(again, qat=QatConfig()), tmp_path / "float", "a command")
    assert learnt_steps(load_model(tmp_path / "float" / "student.safetensors").network) is None
