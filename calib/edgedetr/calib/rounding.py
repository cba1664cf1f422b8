"""Which activations an INT8 graph rounds, to which numbers, and which nodes read them so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedetr.calib.placement import concat_inputs, fused_results, gathered_rows, residuals
from edgedetr.graph.fp8 import fp8_scale
from edgedetr.graph.int8 import Grid, asymmetric_grid, scale_from_amax
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgedetr.calib.placement import Point
    from edgedetr.calib.stats import TensorRange
    from edgedetr.calib.targets import EightBit, Target
    from edgedetr.graph.wiring import Wiring


@dataclass(frozen=True)
class Rounding:
    """How an activation is rounded.

    Attributes:
        grid: To which numbers.
        readers: Indices of the nodes that read it so; others see it as it was.
    """

    grid: Grid
    readers: frozenset[int]


def roundings(
    wiring: Wiring,
    chosen: Sequence[Point],
    ranges: Iterable[TensorRange],
    target: Target,
    precision: EightBit = "int8",
) -> dict[str, Rounding]:
    """Plan the roundings of a graph.

    Args:
        wiring: The float32 graph.
        chosen: Its INT8 nodes.
        ranges: What calibration measured.
        target: What the graph is for.
        precision: To which format; ``fp8`` only where the target is TensorRT.

    Raises:
        ArtifactError: If a range is missing.
    """
    known = {r.tensor: r for r in ranges}
    readers = _readers(wiring, chosen, target)
    if target == "openvino":
        for name, nodes in gathered_rows(wiring, chosen).items():
            if name in known:  # calibrations of before lack it
                readers.setdefault(name, set()).update(nodes)
    for name in readers:
        if name not in known:
            raise ArtifactError(
                f"the calibration has no range for {name}; run: edgedetr calib collect"
            )
        if target != "tensorrt" and known[name].low is None:
            raise ArtifactError(
                f"the calibration has no uint8 range for {name}, which {target} needs; run: "
                "edgedetr calib collect"
            )
    groups = {} if target == "openvino" else _joined(wiring, chosen)
    return {
        name: Rounding(
            _grid([known[n] for n in groups.get(name, {name})], target, precision),
            frozenset(nodes),
        )
        for name, nodes in readers.items()
    }


def _readers(wiring: Wiring, chosen: Sequence[Point], target: Target) -> dict[str, set[int]]:
    """Name the activations to round, each with the nodes that shall read its INT8 values."""
    readers: dict[str, set[int]] = {}
    for point in chosen:
        readers.setdefault(point.tensor, set()).add(point.index)
        for part in () if target == "openvino" else concat_inputs(wiring, point.tensor):
            readers.setdefault(part, set()).add(wiring.producer[point.tensor])
    for index, skip in residuals(wiring, chosen).items():
        readers.setdefault(skip, set()).add(index)
    if target == "onnxruntime":
        for name in fused_results(wiring, chosen):
            readers.setdefault(name, set()).update(wiring.readers[name])
    return readers


def _joined(wiring: Wiring, chosen: Iterable[Point]) -> dict[str, set[str]]:
    """Map each activation that a Concat joins, and the whole, to all that share its grid."""
    groups: list[set[str]] = []
    for point in chosen:
        group = {point.tensor, *concat_inputs(wiring, point.tensor)}
        shared = [g for g in groups if g & group]
        groups = [g for g in groups if not g & group] + [group.union(*shared)]
    return {name: group for group in groups for name in group}


def _grid(ranges: Sequence[TensorRange], target: Target, precision: EightBit) -> Grid:
    """Return the grid that holds all of these ranges; FP8 takes all that calibration saw."""
    if precision == "fp8":
        return Grid(fp8_scale(max(r.max for r in ranges)), is_float=True)
    if target == "tensorrt":
        return Grid(scale_from_amax(max(r.amax for r in ranges)))
    return asymmetric_grid(min(r.low or 0.0 for r in ranges), max(r.high or 0.0 for r in ranges))
