"""The search for the largest share of INT8, with costs that are made up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from typing_extensions import override

from edgedetr.calib.stats import read_stats
from edgedetr.export.search.int8_coverage import find_coverage
from edgedetr.export.search.speed import Speed
from edgedetr.export.search.trial import Effect
from edgedetr.export.verify.figures import figures_from_pairs
from edgedetr.export.verify.limits import Limits
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


def in_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all layers of a graph lie in one block."""
    monkeypatch.setattr(
        "edgedetr.export.search.sensitivity.block_names",
        lambda model: {node.name: "net" for node in model.graph.node},
    )


def test_a_block_that_is_too_coarse_is_searched_layer_by_layer(
    grey_onnx: Path, write_grey_stats: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both convolutions lie in a block, of which ``fpn`` alone costs too much."""
    in_one_block(monkeypatch)

    def drops(inside: set[str]) -> float:
        return 0.1 * len(inside) + 1.0 * ("fpn" in inside)

    stats, network = read_stats(write_grey_stats()), onnx.load(grey_onnx)
    trial: Any = Pretended(drops)
    found = find_coverage(network, stats, trial, 0.5)
    names = {c.name for c in found.chosen}
    assert "/net/backbone/body/Conv" in names
    assert "/net/encoder/fpn/Conv" not in names
    assert found.best is not None
    assert found.best.ap_drop == pytest.approx(0.1 * len(names))
    alone = {row.name: row.ap_drop for row in found.sensitivity.rows()}
    assert alone["/net/encoder/fpn/Conv"] == pytest.approx(1.1)
    assert "net" not in alone  # its layers stand for it
    assert [line.partition(" ")[0] for line in found.floats()] == ["/net/encoder/fpn/Conv"]


def test_limits_of_ones_own_decide_and_every_layer_is_tried(
    grey_onnx: Path, write_grey_stats: Callable[..., Path]
) -> None:
    """Scores move by 0.01 a layer and by 0.03 for the linear one: 0.045 leaves one layer float."""

    class Moving(Losing):
        @override
        def effect(
            self, model: onnx.ModelProto, name: str, max_ap_drop: float | None = None
        ) -> Effect:
            inside = {layer.split("/")[-2] for layer in int8_macs(model)}
            moved = 0.01 * len(inside - {"mlp"}) + 0.03 * ("mlp" in inside)
            pair = Pairs(np.zeros(1), np.full(1, moved), np.ones(1), 0)
            pairs = (pair,) * self.frames
            return Effect(figures_from_pairs(pairs, self.frames, 0), pairs=pairs)

    stats, network = read_stats(write_grey_stats()), onnx.load(grey_onnx)
    trial: Any = Moving(len)
    limits = Limits(iou=0.9, score_error=0.045, lost_share=0.1)
    found = find_coverage(network, stats, trial, None, limits=limits)
    assert {c.block for c in found.chosen} == {"backbone/stem", "backbone/body", "encoder/fpn"}
    assert "encoder/mlp (linear)" in {step.tried for step in found.steps}
    assert "within the limits (10% of the detections lost, IoU >= 0.9" in found.describe()


class Clock:
    """Answers with times that are made up: ``slow`` layers save none."""

    def __init__(self, speedup: float, *slow: str) -> None:
        self.speedup, self.slow = speedup, slow
        self.timed: list[set[str]] = []

    def saved_ms(self, int8: onnx.ModelProto, chosen: Any) -> dict[Any, float]:
        del int8
        return {c: -0.5 if c.block in self.slow else 1.0 for c in chosen}

    def speed(self, int8: onnx.ModelProto) -> Speed:
        self.timed.append({layer.split("/")[-2] for layer in int8_macs(int8)})
        return Speed("ONNX Runtime", 10.0, 10 * self.speedup, 20.0, self.speedup, 1.2)


def test_what_costs_accuracy_and_saves_no_time_is_float_again(
    grey_onnx: Path, write_grey_stats: Callable[..., Path]
) -> None:
    stats, network = read_stats(write_grey_stats()), onnx.load(grey_onnx)
    trial: Any = Pretended(lambda inside: 0.1 * len(inside & {"body"}))
    clock: Any = Clock(1.5, "backbone/body", "encoder/fpn")
    found = find_coverage(network, stats, trial, 0.5, timer=clock)
    assert {c.block for c in found.chosen} >= {"encoder/fpn"}  # it costs nothing
    assert "backbone/body" not in {c.block for c in found.chosen}
    assert found.steps[-1].tried == "without 1 that save no time"
    assert clock.timed == [{"stem", "fpn", "mlp"}]
    assert found.is_worth_it
    assert found.describe().endswith(
        "; 1.50x in ONNX Runtime: 10.0 ms, FP32 15.0, FP16 20.0; wanted 1.2x"
    )


def test_int8_that_is_too_slow_is_not_worth_it(
    grey_onnx: Path, write_grey_stats: Callable[..., Path]
) -> None:
    stats, network = read_stats(write_grey_stats()), onnx.load(grey_onnx)
    trial: Any = Pretended(lambda inside: 0.0 * len(inside))
    clock: Any = Clock(0.97)
    found = find_coverage(network, stats, trial, 0.5, timer=clock)
    assert found.best is not None
    assert found.best.coverage > 0.9
    assert not found.is_worth_it
    assert "0.97x in ONNX Runtime" in found.describe()
