"""The pairs of the study are tuned and compared fairly."""

from pathlib import Path

import pytest

from edgedetr.bench.study.pairs import PAIRS, SOURCES
from edgedetr.bench.study.plan import TUNING_SEED, runs_of
from edgedetr.runtime.manifest import read_manifest

ROOT = Path(__file__).parents[3]


def test_no_reported_run_has_the_seed_of_tuning():
    runs = list(runs_of(PAIRS))
    assert {run.seed for run in runs if run.kind == "tune"} == {TUNING_SEED}
    assert TUNING_SEED not in {run.seed for run in runs if run.kind == "final"}


def test_every_arm_is_tuned_by_as_many_tries():
    for pair in PAIRS.values():
        counts = {len(pair.tries_of(arm.tuned_as or name)) for name, arm in pair.arms.items()}
        assert len(counts) == 1
        assert all(other in pair.arms for arm in pair.arms.values() for other in arm.over)


@pytest.mark.parametrize("name", PAIRS)
def test_a_teacher_knows_the_classes_of_its_data(name):
    pair = PAIRS[name]
    spec = read_manifest(ROOT / pair.teacher).spec
    assert spec is not None
    assert spec.class_names == SOURCES[pair.data].spec.class_names
