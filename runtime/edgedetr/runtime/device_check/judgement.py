"""Which engines must not ship for a device, by what was measured of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgedetr.runtime.printable import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.runtime.device_check.measure import EngineCheck
    from edgedetr.runtime.device_check.model_check import ModelCheck

_EIGHT_BITS = ("fp8", "int8")


def problems_of(check: EngineCheck, precision: str) -> tuple[str, ...]:
    """Return why an engine that runs must not ship, whatever the others do.

    Args:
        check: What was measured.
        precision: What the package says that the model is; empty for a file.
    """
    problems = []
    if check.agreement is None:
        problems.append("there is no ONNX file to compare with; put the one it was built from here")
    elif not check.agreement.holds:
        lost, all_of_them = check.agreement.lost, check.agreement.detections
        problems.append(
            f"{lost} of {counted(all_of_them, 'detection')} differ from the ONNX file, wanted at "
            "most a tenth of at least one"
        )
    types = check.layers.computes_in if check.layers else {}
    if types and precision not in {"", *(t.lower() for t in types)}:
        listed = ", ".join(types)
        problems.append(f"nothing in the engine computes in {precision}, only in {listed}")
    return tuple(problems)


def without_slow_int8(checks: Sequence[ModelCheck]) -> list[ModelCheck]:
    """Give INT8 and FP8 that are no faster here than a float model a problem: they cost accuracy.

    Args:
        checks: All models of a package, each judged by itself.
    """
    others = [
        c for c in checks if c.precision not in {"", *_EIGHT_BITS} and not c.problems and c.check
    ]
    if not others:
        return list(checks)
    best = min(others, key=_p99_ms)
    return [
        replace(c, problems=(*c.problems, _too_slow(c, best)))
        if c.precision in _EIGHT_BITS and c.check and _p99_ms(c) >= _p99_ms(best)
        else c
        for c in checks
    ]


def fastest(checks: Sequence[ModelCheck]) -> str | None:
    """Name the model with the lowest p99 at the rate among those without a problem."""
    good = [c for c in checks if c.check and not c.problems]
    return min(good, key=_p99_ms).name if good else None


def passed(checks: Sequence[ModelCheck]) -> bool:
    """Return whether there is a model, and none must stay here."""
    return bool(checks) and not any(c.problems for c in checks)


def _too_slow(coarse: ModelCheck, best: ModelCheck) -> str:
    kind = coarse.precision.upper()
    return (
        f"{kind} does not pay here: p99 at the rate {_p99_ms(coarse):.2f} ms, that of {best.name} "
        f"{_p99_ms(best):.2f}; pack it without the {kind} model"
    )


def _p99_ms(check: ModelCheck) -> float:
    return check.check.paced.p99_ms if check.check else float("inf")
