import math

import pytest
import torch
from safetensors.torch import save_model as save_weights

from edgedetr.distill.training.best_student import BestStudent
from edgedetr.runtime.errors import ArtifactError


class Student:
    """A network of one weight."""

    def __init__(self, value):
        self.network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(self.network.weight, value)


def best_in(out, patience=0, metric="ap"):
    def save(path, student, _):
        save_weights(student.network, str(path))

    return BestStudent(out, metric, patience, save)


def evaluated(best, values):
    """Take students of these AP in turn; return the evaluations."""
    log: dict[int, dict[str, float]] = {}
    for epoch, ap in enumerate(values):
        best.take(Student(float(epoch)), {"ap": ap, "ap50": 1 - ap}, log)
        log[epoch] = {"ap": ap, "ap50": 1 - ap}
    return log


def test_the_first_of_the_best_is_kept_and_taken_up(tmp_path):
    best = best_in(tmp_path)
    log = evaluated(best, [0.1, math.nan, 0.4, 0.4, 0.2])
    student = Student(9.0)
    assert best.take_up(student, log) == {"ap": 0.4, "ap50": 0.6, "best_epoch": 3.0}
    assert student.network.weight.item() == 2.0
    by_ap50 = best_in(tmp_path, metric="ap50")
    assert by_ap50.epoch(log) == 0


def test_a_run_ends_after_evaluations_that_bring_nothing_better(tmp_path):
    best = best_in(tmp_path, patience=2)
    assert not best.is_over({})
    assert not best.is_over(evaluated(best, [0.1, 0.3, 0.2]))
    assert best.is_over(evaluated(best, [0.1, 0.3, 0.2, 0.3]))
    assert best.is_over(evaluated(best, [math.nan, math.nan]))
    assert not best_in(tmp_path).is_over(evaluated(best, [0.3, 0.2, 0.1, 0.1]))


def test_nothing_is_kept_where_nothing_is_asked_for_or_measured(tmp_path):
    for best in (best_in(tmp_path, metric=""), best_in(tmp_path)):
        values = [0.5] if not best.metric else [math.nan]
        log = evaluated(best, values)
        assert best.take_up(Student(0.0), log) == {}
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_one_line(tmp_path):
    best = best_in(tmp_path)
    log = evaluated(best, [0.5])
    (tmp_path / "best.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"best\.safetensors is missing, and the run has gone"):
        best.take_up(Student(0.0), log)
