"""Searches of tiny trials, end to end."""

import json
from dataclasses import replace

import pytest

pytest.importorskip("optuna")

from edgedetr.distill import recipe
from edgedetr.distill.config import load_config
from edgedetr.distill.tune_config import TuneConfig
from edgedetr.distill.tuning import check_space, trial_config, tune
from edgedetr.runtime.errors import ArtifactError, EdgeDetrError, SettingsError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # SQLAlchemy's pool at exit

SPACE = {
    "optimizer.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "epochs": {"low": 2, "high": 3},
    "methods": {"choices": [["none"]]},
}


@pytest.fixture
def searched(config):
    return replace(config, eval_every=1, tune=TuneConfig(space=SPACE, trials=3, unpruned=1))


@pytest.mark.slow
def test_a_search_goes_on_after_a_kill_prunes_what_is_bad_and_gives_the_best(
    searched, tmp_path, monkeypatch, interrupt, rated
):
    """The second trial is killed in its second epoch; the third is worse than both at once."""
    out = tmp_path / "search"
    said: list[str] = []
    rated([0.2, 0.3, 0.3, 0.4])
    real = recipe.train

    def killed(config, folder, command, calibrate, watchers):
        stop = [interrupt(3)] if folder.name == "trial-001" else []
        return real(config, folder, command, calibrate, (*watchers, *stop))

    fixed = {**SPACE, "epochs": {"choices": [2]}}
    config = replace(searched, tune=replace(searched.tune, space=fixed))
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            tune(config, out, "a command", said.append)
    assert [line.split(":")[0] for line in said] == ["[1/3] trial-000"]
    assert steps(out / "trial-001") == [0, 1, 2, 3]
    rated([0.5, 0.1])
    found = tune(config, out, "a command", said.append)
    assert steps(out / "trial-001") == [0, 1, 2, 3]
    assert len(list((out / "trial-001" / "tensorboard").iterdir())) == 2
    assert steps(out / "trial-002") == [0, 1]
    assert (found.value, found.trials, found.pruned, found.failed) == (0.5, 2, 1, 0)
    assert "trial-002: ended early after 2 steps" in said[2]
    best = load_config(found.path)
    assert best == load_best(config, out, "trial-001")
    assert not best.tune.space
    again = tune(config, out, "a command", said.append)
    assert again == found
    assert len(said) == 3


def steps(run):
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [record["step"] for record in map(json.loads, lines) if record["kind"] == "step"]


def load_best(config, out, name):
    """Return the settings of a trial, from its own run."""
    from edgedetr.distill.training.run_facts import read_facts

    rate = read_facts(out / name).config["optimizer"]["learning_rate"]
    return trial_config(config, {"optimizer.learning_rate": rate, "epochs": 2})


@pytest.mark.slow
def test_a_budget_of_steps_ends_a_search_and_another_config_is_refused(searched, tmp_path, rated):
    said: list[str] = []
    rated([0.2])
    config = replace(searched, tune=replace(searched.tune, steps=1))
    found = tune(config, tmp_path / "out", "a command", said.append)
    assert found.trials == 1
    assert said[-1].endswith("steps are taken, which is tune.steps; no other trial begins")
    with pytest.raises(ArtifactError, match=r"search of another config \(seed was 0, is 1\)"):
        tune(replace(config, seed=1), tmp_path / "out", "a command", said.append)


def test_trials_that_fail_are_counted_and_if_all_do_it_is_said(searched, tmp_path, monkeypatch):
    said: list[str] = []

    def fails(*_):
        raise EdgeDetrError("step 3: the loss is not finite")

    monkeypatch.setattr(recipe, "train", fails)
    with pytest.raises(UsageError, match="no trial came to its end: step 3: the loss"):
        tune(searched, tmp_path / "out", "a command", said.append)
    assert len(said) == 3


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "tune.space is empty"),
        (
            {"optimizer.learning_rat": {"low": 1.0, "high": 2.0}},
            "unknown key 'learning_rat'; did you mean 'learning_rate'",
        ),
        ({"optimiser.gamma": {"low": 0.1, "high": 0.2}}, "'optimiser'; did you mean 'optimizer'"),
        ({"method.clock.wieght": {"low": 0.1, "high": 0.2}}, "unknown key 'wieght'"),
        ({"optimizer.gamma": {"low": 0.1, "high": 2.0}}, r"gamma must lie in \(0, 1\], got 2\.0"),
        ({"epochs.x": {"low": 1, "high": 2}}, "'epochs' is no table"),
        ({"data.augment": {"choices": ["flip", "flap"]}}, "flap"),
    ],
)
def test_what_a_run_would_refuse_is_refused_before_any_trial(config, space, message):
    with pytest.raises((SettingsError, UsageError), match=message) as caught:
        check_space(replace(config, tune=TuneConfig(space=space)))
    assert "\n" not in str(caught.value)
