"""Losses compute in FP32, whatever precision the networks run in.

Sums over cells and channels overflow FP16, and small variances vanish in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
Result = TypeVar("Result")


def in_float32(loss: Callable[P, Result]) -> Callable[P, Result]:
    """Cast floating tensors in a function's arguments to FP32 and switch autocast off in it.

    Tensors are looked for in dataclasses, tuples, lists and mappings too. A module that is an
    argument computes without autocast as well.
    """

    @wraps(loss)
    def computed(*arguments: P.args, **named: P.kwargs) -> Result:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            return loss(*_cast(arguments), **_cast(named))

    return computed


def _cast(value: Any) -> Any:  # noqa: ANN401 - whatever a loss takes
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {key: _cast(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_cast(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return _cast_fields(value)
    return value


def _cast_fields(value: Any) -> Any:  # noqa: ANN401
    before = {f.name: getattr(value, f.name) for f in fields(value)}
    after = {name: _cast(item) for name, item in before.items()}
    changed = {
        name: item
        for name, item in after.items()
        if isinstance(item, (Tensor, tuple, list)) and item is not before[name]
    }
    return replace(value, **changed) if changed else value
