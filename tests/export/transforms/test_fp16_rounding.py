"""Weights rounded to FP16 so that their errors cancel."""

from __future__ import annotations

import numpy as np
import pytest

from edgedetr.export.transforms.fp16_rounding import half_weights


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_errors_of_rounded_weights_cancel(axis: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(scale=0.1, size=(8, 8, 3, 8)).astype(np.float32)
    rounded, nearest = half_weights(values, axis), values.astype(np.float16)
    step = np.spacing(np.abs(nearest))
    assert (np.abs(rounded.astype(np.float64) - values) <= step).all()
    assert (rounded != nearest).mean() < 0.03
    rest = tuple(i for i in range(4) if i != axis % 4)
    sums, before = (np.abs((h.astype(np.float64) - values).sum(rest)) for h in (rounded, nearest))
    assert (sums <= before).all()
    assert sums.mean() < 0.05 * before.mean()
