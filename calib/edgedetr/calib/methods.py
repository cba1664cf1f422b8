"""The names of the ways to choose a tensor's amax; what they do is in `edgedetr.calib.scales`."""

from __future__ import annotations

from typing import Literal, get_args

Method = Literal["mse", "percentile", "entropy", "max"]
METHODS: tuple[str, ...] = get_args(Method)
