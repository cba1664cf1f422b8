"""Make a strongly typed FP16 graph of a float32 one, as TensorRT 10 and 11 want it.

Precision lies in the graph and nowhere else: weights are FP16 numbers, a Cast stands where FP32
nodes (see `edgedetr.export.transforms.fp32_rules`) meet FP16 ones, and nowhere twice for the same
tensor. Inputs and outputs of the graph stay FP32, so that runtimes need not know.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgedetr.calib.value_ranges import value_ranges
from edgedetr.export.transforms.fp32_rules import islands
from edgedetr.export.transforms.typed_graph import Halves, typed
from edgedetr.graph.macs import macs
from edgedetr.graph.wiring import Wiring, element_types, label
from edgedetr.runtime.printable import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from edgedetr.runtime.spec import ModelSpec


@dataclass(frozen=True)
class HalfShare:
    """How much of a model runs in FP16.

    Attributes:
        nodes: Nodes that compute in FP16.
        float_nodes: Nodes that compute in FP16 or FP32, the added Casts apart.
        half_macs: Multiply-accumulates of the former, for one batch.
        macs: Multiply-accumulates of the model.
        casts: Casts that were added.
        islands: Reason to how many nodes stay in FP32 for it, most first.
        kept: Blocks that stay in FP32 because of their measured error.
    """

    nodes: int
    float_nodes: int
    half_macs: int
    macs: int
    casts: int
    islands: dict[str, int] = field(default_factory=dict)
    kept: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return a one-line summary."""
        share = self.half_macs / max(1, self.macs)
        return (
            f"{self.nodes} of {self.float_nodes} nodes and {share:.1%} of {self.macs / 1e9:.3f} "
            f"GMACs in FP16, {self.casts} casts; FP32: {self.in_fp32()}"
        )

    def in_fp32(self) -> str:
        """Return how many nodes stay in FP32, and why."""
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.islands.items())
        nodes = counted(self.float_nodes - self.nodes, "node")
        found = f"{nodes} ({reasons})" if reasons else "none"
        return f"{found}; for their error: {', '.join(self.kept)}" if self.kept else found


@dataclass(frozen=True, eq=False)
class Halving:
    """A float32 graph and what is known of it before it becomes FP16.

    Attributes:
        model: The graph.
        types: Element type of each of its tensors.
        reasons: Index of each node that stays in FP32 to the reason.
    """

    model: onnx.ModelProto
    types: dict[str, int]
    reasons: dict[int, str]

    def typed(self, blocks: Mapping[str, Collection[int]]) -> tuple[onnx.ModelProto, HalfShare]:
        """Write the graph.

        Args:
            blocks: Names of blocks that stay in FP32 as well, each with the indices of its nodes.
        """
        more = {index: "error" for nodes in blocks.values() for index in nodes}
        reasons = more | self.reasons
        half, where = typed(self.model, self.types, set(reasons))
        return half, _share(self.model, where, reasons, tuple(blocks))


def halve(
    model: onnx.ModelProto,
    spec: ModelSpec,
    frames: Iterable[NDArray[np.uint8]] | None = None,
    magnitudes: Mapping[str, float] | None = None,
) -> tuple[onnx.ModelProto, HalfShare]:
    """Make a typed FP16 graph of a float32 one, which may hold Q/DQ nodes.

    Args:
        model: The graph; it is left as it is.
        spec: How to feed it, and which output holds the boxes.
        frames: RGB images, uint8 (H, W, 3); generated when None.
        magnitudes: What tensors were seen to reach before, at calibration.

    Raises:
        ArtifactError: If the model does not run.
    """
    return prepared(model, spec, frames, magnitudes).typed({})


def prepared(
    model: onnx.ModelProto,
    spec: ModelSpec,
    frames: Iterable[NDArray[np.uint8]] | None = None,
    magnitudes: Mapping[str, float] | None = None,
) -> Halving:
    """Measure ranges and find what rules and ranges keep in FP32; takes what `halve` takes."""
    if frames is None:
        from edgedetr.export.transforms.textures import textured_frames

        frames = textured_frames(spec.input_hw)
    types = element_types(model)
    ranges = value_ranges(model, spec, frames)
    known = magnitudes or {}
    ranges = {name: r.joined(known.get(name, 0.0)) for name, r in ranges.items()}
    return Halving(model, types, islands(Wiring(model.graph), types, spec.boxes_name, ranges))


def _share(
    model: onnx.ModelProto, where: Halves, reasons: Mapping[int, str], blocks: tuple[str, ...]
) -> HalfShare:
    counts = macs(model)
    inside = {label(model.graph.node[i]) for i in where.half}
    kept = Counter(reasons.get(i, "between") for i in where.full)
    return HalfShare(
        nodes=len(where.half),
        float_nodes=len(where.half) + len(where.full),
        half_macs=sum(count for name, count in counts.items() if name in inside),
        macs=sum(counts.values()),
        casts=where.casts,
        islands=dict(kept.most_common()),
        kept=blocks,
    )
