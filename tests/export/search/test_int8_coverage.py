"""The search for the largest share of INT8, with costs that are made up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from typing_extensions import override

from edgedetr.calib.stats import read_stats
from edgedetr.export.search.int8_coverage import find_coverage
from edgedetr.export.search.trial import Effect
from edgedetr.export.verify.figures import figures_from_pairs
from edgedetr.export.verify.matching import Pairs
from edgedetr.graph.exact import exact_graph
from edgedetr.graph.macs import int8_macs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Pretended:
    """Answers with an AP that depends on what is in INT8, as no real trial would."""

    ap = 50.0

    def __init__(self, drops: Callable[[set[str]], float], of_fp16: float = 0.0) -> None:
        self.drops, self.of_fp16 = drops, of_fp16

    def __len__(self) -> int:
        return 3

    def effect(self, model: onnx.ModelProto, name: str, max_ap_drop: float | None = None) -> Effect:
        del name, max_ap_drop
        drop = self.drops({layer.split("/")[-2] for layer in int8_macs(model)})
        drop += self.of_fp16 * bool(exact_graph(model).half)
        figures = figures_from_pairs([], len(self), 0)
        return Effect(figures, self.ap - drop, drop)


def search(
    grey_onnx: Path, stats: Path, drops: Callable[[set[str]], float]
) -> tuple[tuple[str, ...], list[str]]:
    """Return what was chosen and what was tried."""
    found = find_coverage(onnx.load(grey_onnx), read_stats(stats), Pretended(drops), 0.5)  # type: ignore[arg-type]
    return tuple(c.block for c in found.chosen), [step.tried for step in found.steps]


def test_the_chosen_set_is_measured_with_the_requested_rest(
    grey_onnx: Path, write_grey_stats: Callable[..., Path]
) -> None:
    """Each layer loses 0.1 points and FP16 0.35: both convolutions hold 0.5 beside FP32 only."""
    stats, network = read_stats(write_grey_stats()), onnx.load(grey_onnx)
    trial: Any = Pretended(lambda inside: 0.1 * len(inside), of_fp16=0.35)
    beside_fp32 = find_coverage(network, stats, trial, 0.5)
    found = find_coverage(network, stats, trial, 0.5, "fp16")
    assert [c.block for c in beside_fp32.chosen] == ["backbone/body", "encoder/fpn"]
    assert found.chosen == beside_fp32.chosen[:1]
    assert found.best == found.steps[-1]
    assert found.best.ap_drop == pytest.approx(0.45)
    assert [(s.rest, s.kept) for s in found.steps[-2:]] == [("fp16", False), ("fp16", True)]
    assert found.steps[-1].tried == "without encoder/fpn"
    assert "the rest in FP16, within an AP drop of 0.5 points: 0.45 points of" in found.describe()
    trial.of_fp16 = 0.6
    lost = find_coverage(network, stats, trial, 0.5, "fp16")
    assert (lost.chosen, lost.best, lost.is_worth_it) == ((), None, False)


def test_effects_are_measured_together(
    grey_onnx: Path, write_grey_stats: Callable[..., Path]
) -> None:
    """Each block alone loses 0.1 points, two convolutions 1."""

    def drops(inside: set[str]) -> float:
        return 1.0 if {"body", "fpn"} <= inside else 0.1 * len(inside)

    chosen, _ = search(grey_onnx, write_grey_stats(), drops)
    assert len({"backbone/body", "encoder/fpn"} & set(chosen)) == 1


def test_what_was_left_out_gets_a_second_chance(
    grey_onnx: Path, write_grey_stats: Callable[..., Path]
) -> None:
    """Beside the stem alone ``body`` costs too much, with ``fpn`` as well it does not."""
    costs = {("stem",): 0.0, ("body",): 0.1, ("body", "stem"): 0.6}

    def drops(inside: set[str]) -> float:
        return costs.get(tuple(sorted(inside)), 0.2)

    chosen, tried = search(grey_onnx, write_grey_stats(), drops)
    assert chosen == ("backbone/stem", "encoder/fpn", "backbone/body")
    assert tried == [
        "backbone/stem (first conv)",
        "backbone/body",
        "encoder/fpn",
        "backbone/body",
    ]


def test_layers_beside_the_convolutions_are_tried_only_where_they_pay(
    grey_onnx: Path, write_grey_stats: Callable[..., Path]
) -> None:
    def drops(inside: set[str]) -> float:
        return 0.1 * len(inside - {"stem", "mlp"}) + 0.3 * len(inside & {"stem", "mlp"})

    chosen, tried = search(grey_onnx, write_grey_stats(), drops)
    assert set(chosen) == {"backbone/body", "encoder/fpn"}
    assert tried == ["backbone/body", "encoder/fpn"]


class Losing:
    """Answers with lost detections that depend on what is in INT8, in frames of one detection."""

    ap = None

    def __init__(self, lost: Callable[[set[str]], int], frames: int = 100) -> None:
        self.lost, self.frames = lost, frames

    def __len__(self) -> int:
        return self.frames

    def effect(self, model: onnx.ModelProto, name: str, max_ap_drop: float | None = None) -> Effect:
        del name, max_ap_drop
        lost = self.lost({layer.split("/")[-2] for layer in int8_macs(model)})
        one, none = np.ones(1), np.zeros(0)
        pairs = [Pairs(none, none, none, 1)] * lost
        pairs += [Pairs(0 * one, 0 * one, one, 0)] * (self.frames - lost)
        return Effect(figures_from_pairs(pairs, self.frames, 0), pairs=tuple(pairs))


def test_without_a_limit_of_ap_the_gate_decides(
    grey_onnx: Path, write_grey_stats: Callable[..., Path]
) -> None:
    """By hand: 4 of 100 single detections are at most 9.0 % (Clopper and Pearson), 5 10.3 %."""
    stats, network = read_stats(write_grey_stats()), onnx.load(grey_onnx)
    trial: Any = Losing(lambda inside: 2 * len(inside))
    found = find_coverage(network, stats, trial, None)
    assert [c.block for c in found.chosen] == ["backbone/body", "encoder/fpn"]
    assert found.best is not None
    assert (found.best.ap, found.best.ap_drop, found.best.ap_drop_high) == (None, None, None)
    assert found.best.lost_share == 0.04
    assert found.best.lost_share_high == pytest.approx(0.09, abs=2e-3)
    assert found.describe().endswith(
        "in INT8, the rest in FP32, within the gate (10% of the detections lost, IoU >= 0.8, "
        "scores within 0.1): 4.00% of the detections lost on 100 frames"
    )
    trial.lost = lambda inside: 5 * len(inside) - 2
    found = find_coverage(network, stats, trial, None)
    assert len(found.chosen) == 1
    (left,) = {"backbone/body", "encoder/fpn"} - {c.block for c in found.chosen}
    assert list(found.floats()) == [
        f"{left} stays float: alone in INT8 it loses 3.00% of the detections"
    ]


def test_an_upper_bound_of_a_drop_decides_and_not_the_drop(
    grey_onnx: Path, write_grey_stats: Callable[..., Path]
) -> None:
    class Unsure(Pretended):
        @override
        def effect(
            self, model: onnx.ModelProto, name: str, max_ap_drop: float | None = None
        ) -> Effect:
            found = super().effect(model, name, max_ap_drop)
            drop = found.ap_drop or 0.0
            return Effect(found.figures, found.ap, drop, ap_drop_high=drop + 0.35)

    stats, network = read_stats(write_grey_stats()), onnx.load(grey_onnx)
    trial: Any = Unsure(lambda inside: 0.1 * len(inside))
    found = find_coverage(network, stats, trial, 0.5)
    assert len(found.chosen) == 1
    assert found.best is not None
    assert (found.best.ap_drop, found.best.ap_drop_high) == pytest.approx((0.1, 0.45))


def test_where_nothing_holds_the_least_is_named(
    grey_onnx: Path, write_grey_stats: Callable[..., Path]
) -> None:
    stats, network = read_stats(write_grey_stats()), onnx.load(grey_onnx)
    trial: Any = Losing(lambda inside: 30 + 20 * len(inside - {"body"}))
    found = find_coverage(network, stats, trial, None)
    assert (found.chosen, found.best, found.is_worth_it) == ((), None, False)
    assert found.describe().startswith("no block holds the gate (10% of the detections lost")
    assert "the smallest loss is 30.00% of the detections for " in found.describe()
    assert "(backbone/body), on 100 frames" in found.describe()
