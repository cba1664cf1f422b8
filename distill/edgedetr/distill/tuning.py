"""Search over settings with Optuna: each trial is a run that resumes, and bad ones end early.

Trials that were killed are taken up again with the same settings in the same folder.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from edgedetr.distill import recipe
from edgedetr.distill.config import DistillConfig
from edgedetr.distill.config_text import toml_text
from edgedetr.distill.training.qat import Calibrate, uncalibrated
from edgedetr.distill.training.run_folder import only_run_in
from edgedetr.distill.training.run_identity import RunIdentity, settings_of
from edgedetr.distill.tune_config import TuneConfig
from edgedetr.runtime.errors import ArtifactError, EdgeDetrError, SettingsError, UsageError
from edgedetr.runtime.files import write_text
from edgedetr.runtime.settings import settings_from_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edgedetr.distill.tune_config import Span

STUDY = "study.sqlite"
BEST = "best.toml"
_NAME = "tune"
_IDENTITY, _FAILED, _STEPS = "config", "failed", "steps"
_PLAIN = (bool, int, float, str)


@dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
        path: The settings of the best trial, as `edgedetr distill train` takes them.
        value: Its metric.
        trials: How many were run to their end.
        pruned: How many ended early.
        failed: How many could not be trained.
    """

    path: Path
    value: float
    trials: int
    pruned: int
    failed: int


def tune(
    config: DistillConfig,
    out: Path,
    command: str,
    say: Callable[[str], None],
    calibrate: Calibrate = uncalibrated,
) -> Result:
    """Run the trials that are left; write ``best.toml`` whenever one is better.

    Args:
        config: What all trials share; ``tune`` says what varies.
        out: Folder of the search: its trials lie in ``trial-000`` and so on, and Optuna's study
            in ``study.sqlite``.
        command: The command that runs record.
        say: Called with a line for each trial.
        calibrate: Calibrates the students, where they are trained for INT8.

    Raises:
        SettingsError: If nothing varies, a key is unknown, or a value that would be tried is wrong.
        ArtifactError: If ``out`` holds a search of another config.
        UsageError: If another one is using ``out``, or no trial can be trained.
    """
    check_space(config)
    with only_run_in(out):
        study = _opened(config, out)
        _take_up_again(study)
        while (number := len(_finished(study))) < config.tune.trials:
            used = sum(trial.user_attrs.get(_STEPS, 0) for trial in _finished(study))
            if config.tune.steps and used >= config.tune.steps:
                say(f"{used} steps are taken, which is tune.steps; no other trial begins")
                break
            study.sampler = optuna.samplers.TPESampler(seed=config.tune.seed + number)
            trial = study.ask()
            chosen = {key: _suggested(trial, key, s) for key, s in config.tune.spans.items()}
            said = _attempt(study, trial, trial_config(config, chosen), _Run(
                out / f"trial-{number:03d}", command, calibrate
            ))  # fmt: skip
            _write_best(study, config, out, command)
            values = ", ".join(f"{key} = {_shown(value)}" for key, value in chosen.items())
            say(f"[{number + 1}/{config.tune.trials}] trial-{number:03d}: {said}; {values}")
        return _result(study, out)


@dataclass(frozen=True)
class _Run:
    folder: Path
    command: str
    calibrate: Calibrate


class Pruned(Exception):  # noqa: N818 - no error
    """A trial is worse than the others were at the same step."""


class _Reports:
    """Hands the evaluations of a run to its trial, and ends it where they are bad."""

    def __init__(self, trial: optuna.Trial, metric: str) -> None:
        self._trial, self.metric = trial, metric
        self.steps = 0

    def start(self, records: Sequence[Mapping[str, Any]]) -> None:
        for record in records:
            if record.get("kind") == "evaluation" and record.get(self.metric) is not None:
                self._trial.report(record[self.metric], record["step"])

    def step(self, step: int, epoch: int, terms: Mapping[str, float]) -> None:  # noqa: ARG002 - a watcher's
        self.steps = step + 1

    def evaluation(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None:  # noqa: ARG002 - a watcher's
        if math.isfinite(metrics[self.metric]):
            self._trial.report(metrics[self.metric], step)
            if self._trial.should_prune():
                raise Pruned

    def close(self) -> None:
        """Note how much the trial cost."""
        self._trial.set_user_attr(_STEPS, self.steps)


def check_space(config: DistillConfig) -> None:
    """Refuse a key that does not exist and values that a run would refuse, before any trial.

    Raises:
        SettingsError: If one is found, or nothing varies.
    """
    spans = config.tune.spans
    if not spans:
        raise SettingsError(
            'tune.space is empty; say what varies, such as [tune.space] "optimizer.learning_rate" '
            "= { low = 1e-4, high = 3e-3, log = true }"
        )
    for key, span in spans.items():
        for value in span.ends:
            trial_config(config, {key: value})


def trial_config(config: DistillConfig, chosen: Mapping[str, Any]) -> DistillConfig:
    """Return the settings of a trial, without those of the search.

    Raises:
        SettingsError: If a key is unknown, with the nearest, or a value is wrong.
    """
    values = asdict(replace(config, tune=TuneConfig()))
    for key, value in chosen.items():
        *tables, name = key.split(".")
        table = values
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise SettingsError(f"tune.space: {key!r}: {part!r} is no table")
        table[name] = value
    return settings_from_dict(DistillConfig, values, "tune.space")


def _opened(config: DistillConfig, out: Path) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {f"tune.space.{key}": asdict(span) for key, span in config.tune.spans.items()}
    settings = settings_of(config.record()) | space | {"tune.metric": config.tune.metric}
    identity = RunIdentity(json.loads(json.dumps(settings)), {})
    study = optuna.create_study(
        storage=f"sqlite:///{out / STUDY}",
        study_name=_NAME,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=config.tune.unpruned),
        load_if_exists=True,
    )
    before = study.user_attrs.get(_IDENTITY)
    other = identity.difference(before, {}) if before else ""
    if other:
        raise ArtifactError(f"{out} is a search of another config ({other}); choose another --out")
    study.set_user_attr(_IDENTITY, identity.settings)
    return study


def _take_up_again(study: optuna.Study) -> None:
    """Queue what was running when the search was killed: its run goes on in its folder."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """List the trials that are not to be taken up again, in their order."""
    done = (TrialState.COMPLETE, TrialState.PRUNED)
    return [t for t in study.trials if t.state in done or _FAILED in t.user_attrs]


def _attempt(study: optuna.Study, trial: optuna.Trial, config: DistillConfig, run: _Run) -> str:
    """Train one trial; return what came of it."""
    reports = _Reports(trial, study.user_attrs[_IDENTITY]["tune.metric"])
    try:
        metrics = recipe.train(config, run.folder, run.command, run.calibrate, (reports,))
        value = metrics[reports.metric]
    except Pruned:
        study.tell(trial, state=TrialState.PRUNED)
        return f"ended early after {reports.steps} steps"
    except UsageError:
        raise
    except EdgeDetrError as error:
        return _fail(study, trial, str(error))
    if not math.isfinite(value):
        return _fail(study, trial, "no objects to evaluate on")
    study.tell(trial, value)
    return f"{value:.4f} (best {study.best_value:.4f})"


def _fail(study: optuna.Study, trial: optuna.Trial, reason: str) -> str:
    trial.set_user_attr(_FAILED, reason)
    study.tell(trial, state=TrialState.FAIL)
    return f"failed: {reason}"


def _suggested(trial: optuna.Trial, key: str, span: Span) -> Any:  # noqa: ANN401 - a setting's
    if span.choices:
        if all(isinstance(choice, _PLAIN) for choice in span.choices):
            return trial.suggest_categorical(key, span.choices)
        return json.loads(trial.suggest_categorical(key, [json.dumps(c) for c in span.choices]))
    if all(isinstance(value, int) for value in (span.low, span.high, span.step)):
        step = int(span.step) or 1
        return trial.suggest_int(key, int(span.low), int(span.high), step=step, log=span.log)
    return trial.suggest_float(key, span.low, span.high, step=span.step or None, log=span.log)


def _best(study: optuna.Study) -> tuple[int, optuna.trial.FrozenTrial] | None:
    """Return the best trial that came to its end and its place, the first of equals."""
    numbered = [
        (number, trial)
        for number, trial in enumerate(_finished(study))
        if trial.state == TrialState.COMPLETE
    ]
    return max(numbered, key=lambda pair: (pair[1].value or 0.0, -pair[0]), default=None)


def _write_best(study: optuna.Study, config: DistillConfig, out: Path, command: str) -> None:
    best = _best(study)
    if best is None:
        return
    number, trial = best
    chosen = {k: _read(config.tune.spans[k], v) for k, v in trial.params.items()}
    note = f"# {config.tune.metric} {trial.value:.4f}, trial-{number:03d} of\n#   {command}\n"
    write_text(out / BEST, note + toml_text(trial_config(config, chosen).record()))


def _read(span: Span, value: object) -> object:
    """Return a value of a trial as the config has it."""
    plain = all(isinstance(choice, _PLAIN) for choice in span.choices)
    return value if plain else json.loads(str(value))


def _result(study: optuna.Study, out: Path) -> Result:
    trials = _finished(study)
    best = _best(study)
    failed = [trial for trial in trials if _FAILED in trial.user_attrs]
    if best is None:
        why = failed[-1].user_attrs[_FAILED] if failed else "tune.steps allows none"
        raise UsageError(f"{out}: no trial came to its end: {why}")
    pruned = sum(trial.state == TrialState.PRUNED for trial in trials)
    complete = len(trials) - pruned - len(failed)
    return Result(out / BEST, float(best[1].value or 0.0), complete, pruned, len(failed))


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)
