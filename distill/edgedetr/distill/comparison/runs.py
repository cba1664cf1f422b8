"""Train the same student in several ways, seed by seed, and compare the results."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import Accelerator

from edgedetr.distill import recipe
from edgedetr.distill.comparison.page import comparison_page
from edgedetr.distill.comparison.statistics import Arm, Comparison, Run
from edgedetr.distill.evaluation.predict import evaluate
from edgedetr.distill.training.distillation_model import trainee_of
from edgedetr.distill.training.loader import open_splits
from edgedetr.distill.training.models import open_student, open_teacher
from edgedetr.distill.training.network_inputs import NetworkInputs
from edgedetr.distill.training.objective import needs_teacher
from edgedetr.distill.training.preflight import check_query_counts
from edgedetr.distill.training.qat import Calibrate, uncalibrated
from edgedetr.distill.training.run_folder import is_finished, read_metrics, refuse_other
from edgedetr.distill.training.run_identity import identity_of
from edgedetr.distill.weights.foundation import open_foundation
from edgedetr.runtime.errors import ArtifactError, SettingsError, UsageError
from edgedetr.runtime.files import MOST_LOG_BYTES, read_text, write_text
from edgedetr.runtime.machine import machine_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edgedetr.distill.config import DistillConfig


@dataclass(frozen=True)
class Plan:
    """What is to be trained: every arm with every seed.

    Attributes:
        config: What all runs share; its methods are not used, and its seed is the first one.
        arms: Names of methods, those of one arm joined by +; the first arm is the reference.
        seeds: How many.
        out: Folder of the comparison; a run lies in ``<arm>/seed<seed>``.
    """

    config: DistillConfig
    arms: tuple[str, ...]
    seeds: int
    out: Path

    def __post_init__(self) -> None:
        sets = [frozenset(arm.split("+")) for arm in self.arms]
        same = [arm for i, arm in enumerate(self.arms) if sets[i] in sets[:i]]
        if same:
            raise UsageError(f"the arm {same[0]!r} is listed twice; list each once")

    @property
    def runs(self) -> list[_PlannedRun]:
        """Every run in the order of training: pairs of one seed are complete as soon as can be."""
        first = self.config.seed
        return [
            _PlannedRun(arm, seed, self.config_of(arm, seed), self.out / arm / f"seed{seed}")
            for seed in range(first, first + self.seeds)
            for arm in self.arms
        ]

    def config_of(self, arm: str, seed: int) -> DistillConfig:
        """Return the settings of one run.

        Raises:
            UsageError: If a method is unknown or lacks its teacher.
        """
        try:
            return replace(self.config, methods=tuple(arm.split("+")), seed=seed)
        except ValueError as error:
            raise SettingsError(f"the arm {arm!r}: {error}") from error


@dataclass(frozen=True)
class _PlannedRun:
    arm: str
    seed: int
    config: DistillConfig
    folder: Path

    @property
    def is_finished(self) -> bool:
        return is_finished(self.folder)


def compare(
    plan: Plan,
    json_path: Path,
    command: str,
    say: Callable[[str], None],
    calibrate: Calibrate = uncalibrated,
) -> Comparison:
    """Train what is not trained yet; write ``comparison.html`` and the figures after every seed.

    A finished run is kept and one that was killed is resumed, so that the same call after a kill
    gives the same figures.

    Args:
        plan: What to train.
        json_path: Where the figures go.
        command: The command that the results record.
        say: Called with a line of progress for each run.
        calibrate: Calibrates the students, where they are trained for INT8.

    Raises:
        UsageError: If an arm is wrong; nothing was trained then.
        ArtifactError: If the teacher is missing, or a folder holds a run of another config or
            teacher; nothing was trained then.
    """
    planned = plan.runs
    _check(plan, planned)
    teacher_ap = _teacher_ap(plan.config)
    if math.isfinite(teacher_ap):
        say(f"teacher {plan.config.teacher}: AP {teacher_ap:.1f} %")
    runs: dict[str, list[Run]] = {arm: [] for arm in plan.arms}
    for index, wanted in enumerate(planned, 1):
        state = "already trained" if wanted.is_finished else "trained"
        if not wanted.is_finished:
            recipe.train(wanted.config, wanted.folder, command, calibrate)
        run = _read_run(wanted.folder)
        runs[wanted.arm].append(run)
        say(
            f"[{index}/{len(planned)}] {wanted.arm}, seed {wanted.seed}: {state}, "
            f"AP {run.ap:.1f} %, AP50 {run.ap50:.1f} %; {len(planned) - index} left"
        )
        if index % len(plan.arms) == 0:
            _write(_comparison(plan, runs, teacher_ap, command), plan.out, json_path)
    return _comparison(plan, runs, teacher_ap, command)


def _comparison(
    plan: Plan, runs: Mapping[str, Sequence[Run]], teacher_ap: float, command: str
) -> Comparison:
    """Sum up the seeds of which every arm is there."""
    done = len(runs[plan.arms[-1]])
    shared = {k: v for k, v in plan.config.record().items() if k not in {"methods", "seed"}}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return Comparison(
        arms=tuple(Arm(name, tuple(runs[name])) for name in plan.arms),
        seeds=tuple(range(plan.config.seed, plan.config.seed + done)),
        planned_seeds=plan.seeds,
        teacher_ap=teacher_ap,
        config=shared,
        command=command,
        machine=machine_facts(f"torch {torch.__version__}, {device}"),
    )


def _write(comparison: Comparison, out: Path, json_path: Path) -> None:
    write_text(out / "comparison.html", comparison_page(comparison, out.resolve().name))
    write_text(json_path, json.dumps(comparison.as_dict(), indent=2, allow_nan=False) + "\n")


def _check(plan: Plan, planned: Sequence[_PlannedRun]) -> None:
    """Refuse what would fail only after hours: a wrong pair or teacher, or a foreign run."""
    config = plan.config
    names = config.teacher_config.class_names
    student = open_student(config.student, config.data.classes, names)
    teacher = open_teacher(config.teacher_config)
    foundation = open_foundation(config.foundation) if config.foundation else None
    for wanted in planned[: len(plan.arms)]:
        methods = wanted.config.method_configs
        trainee_of(methods, student, teacher, foundation)
        check_query_counts(student, teacher if needs_teacher(methods) else None)
    finished = [wanted for wanted in planned if wanted.is_finished]
    splits = open_splits(config.data) if finished else ()
    for wanted in finished:
        identity = identity_of(wanted.config.record(), wanted.config.weights, *splits)
        refuse_other(wanted.folder, read_metrics(wanted.folder), identity)


def _teacher_ap(config: DistillConfig) -> float:
    """Evaluate the teacher, at its own input size, as the students are."""
    teacher = open_teacher(config.teacher_config)
    if teacher is None:
        return math.nan
    _, split = open_splits(config.data)
    teacher.network.to(Accelerator().device)
    return 100 * evaluate(teacher, NetworkInputs(split, teacher.spec), config.batch_size)["ap"]


def _read_run(folder: Path) -> Run:
    metrics, log = read_metrics(folder)["metrics"], folder / "log.jsonl"
    try:
        records = [json.loads(line) for line in read_text(log, MOST_LOG_BYTES).splitlines()]
        evaluations = [r for r in records if r["kind"] == "evaluation"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ArtifactError(f"{log}: not the log of a run: {error}; delete {folder}") from error
    seconds = [r["seconds"] for r in records if r["kind"] == "step" and "seconds" in r]
    return Run(
        ap=_per_cent(metrics["ap"]),
        ap50=_per_cent(metrics["ap50"]),
        steps=np.array([r["step"] for r in evaluations], np.float64),
        curve=np.array([_per_cent(r["ap"]) for r in evaluations], np.float64),
        step_ms=1e3 * np.array(seconds, np.float64),
        peak_memory_mib=metrics.get("peak_memory_mib", math.nan),
    )


def _per_cent(share: float | None) -> float:
    return math.nan if share is None else 100 * share
