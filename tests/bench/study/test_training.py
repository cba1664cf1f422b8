"""What a run of the study scores, and what it says where its loss is not finite."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from edgedetr.bench.study import workshop
from edgedetr.bench.study.frames import unpack
from edgedetr.bench.study.plan import Run
from edgedetr.bench.study.training import _Loop, score


@pytest.mark.parametrize(("shift", "wanted"), [(0.0, 100), (0.35 * 24 / 96, 0)])
def test_whoever_says_the_truth_scores_100(packed, shift, wanted):
    """Boxes that are moved by 0.35 of their width have an IoU of 0.65 / 1.35 = 0.48."""
    spec, frames = unpack(packed)
    test = frames["test"]

    def predict(_, images):
        logits = torch.full((len(images), 1, 3), -9.0)
        logits[..., 0] = 9.0
        moved = torch.tensor([shift, 0, 0, 0])
        return logits, torch.stack([t.boxes for t in test.targets]) + moved

    model: Any = SimpleNamespace(spec=spec, network=None, module=SimpleNamespace(predict=predict))
    found = score(model, test, torch.device("cpu"))
    assert found == {"ap": wanted, "ap50": wanted, "ap75": wanted}


def test_a_loss_that_is_not_finite_is_told(make_study, monkeypatch):
    study = make_study()
    bench = workshop.Workshop(study)
    for part in range(workshop.PARTS):
        bench.augment("small", part)
    nan = {"x": torch.tensor(math.nan)}
    monkeypatch.setattr(_Loop, "_step", lambda _: (nan, {}))
    found = bench.train(Run("small", "none", "tune", 0), study.pairs["small"].plain_tries[0])
    assert found["diverged"] == "the loss at step 1 is not finite"
