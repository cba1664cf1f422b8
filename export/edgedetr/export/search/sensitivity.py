"""Measure the effect of INT8 in one block alone, in matched boxes and in AP.

Models run with exact fake quantization: every Q/DQ pair is computed as it is written, all else in
FP32.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tqdm import tqdm

from edgedetr.calib.collect import collect
from edgedetr.calib.frames import choose_frames
from edgedetr.calib.placement import default_points, points
from edgedetr.calib.stats import read_stats
from edgedetr.distill.data import training_images
from edgedetr.export.search.trial import Trial, labelled_scenes, unlabelled_scenes
from edgedetr.export.transforms.quantize import quantize
from edgedetr.export.verify.figures import Figures, counted
from edgedetr.export.verify.limits import INT8_LIMITS
from edgedetr.graph.blocks import block_names
from edgedetr.graph.macs import macs
from edgedetr.graph.model_file import load_onnx
from edgedetr.graph.wiring import Wiring, label
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.images import list_images

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import onnx

    from edgedetr.calib.placement import Point
    from edgedetr.calib.stats import CalibrationStats
    from edgedetr.calib.targets import Target
    from edgedetr.export.search.trial import Effect
    from edgedetr.export.verify.limits import Limits
    from edgedetr.runtime.spec import ModelSpec

CALIBRATION = 128
"""How many frames calibrate a model without given ranges."""


@dataclass(frozen=True)
class Candidate:
    """Layers that go into INT8 together: those of one kind in a block, or one of them.

    Attributes:
        block: Name of the block, see `edgedetr.graph.blocks`, or of the one layer.
        kind: ``conv``, ``linear``, or ``first conv`` for the one that reads the image.
        points: The layers.
        macs: Their multiply-accumulates.
    """

    block: str
    kind: str
    points: tuple[Point, ...]
    macs: int

    @property
    def name(self) -> str:
        """Its name, with the kind where that is no plain convolution."""
        return self.block if self.kind == "conv" else f"{self.block} ({self.kind})"


@dataclass(frozen=True)
class BlockEffect:
    """The effect of a candidate alone, in plain values.

    Attributes:
        name: Its name.
        layers: Scopes of its layers.
        macs: Their multiply-accumulates.
        share: Their share of the model's, in [0, 1].
        ap: COCO AP in per cent with these layers in INT8; None without labels.
        ap_drop: By how many points it is below that of FP32; None without labels.
        figures: How the detections compare with those of FP32.
    """

    name: str
    layers: tuple[str, ...]
    macs: int
    share: float
    ap: float | None
    ap_drop: float | None
    figures: Figures

    def cells(self) -> tuple[str, ...]:
        """Return the cells of a row: name, share, AP drop, unmatched, score and box error, IoU."""
        figures = self.figures
        return (
            self.name,
            f"{self.share:.1%}",
            _cell(self.ap_drop, "+.2f"),
            f"{figures.unmatched_share:.2%}",
            _cell(figures.mean_score_error, ".4f"),
            _cell(figures.p99_box_error_px, ".2f"),
            _cell(figures.min_iou, ".3f"),
        )


@dataclass(frozen=True)
class Sensitivity:
    """The effect of each candidate alone.

    Attributes:
        frames: How many frames were measured.
        macs: Multiply-accumulates of the model.
        fp32_ap: COCO AP of the FP32 model in per cent; None without labels.
        effects: Each candidate's effect, in the order of the graph.
        limits: When a detection counts as lost.
    """

    frames: int
    macs: int
    fp32_ap: float | None
    effects: dict[Candidate, Effect]
    limits: Limits = INT8_LIMITS

    def worst_first(self) -> list[tuple[Candidate, Effect]]:
        """Sort by lost AP, then by lost detections and shifted scores."""
        return sorted(
            self.effects.items(), key=lambda pair: damage(pair[1], self.limits), reverse=True
        )

    def rows(self) -> tuple[BlockEffect, ...]:
        """Return plain values, the worst block first."""
        return tuple(
            BlockEffect(
                name=candidate.name,
                layers=tuple(point.scope for point in candidate.points),
                macs=candidate.macs,
                share=candidate.macs / self.macs,
                ap=effect.ap,
                ap_drop=effect.ap_drop,
                figures=effect.figures,
            )
            for candidate, effect in self.worst_first()
        )

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON, the worst block first."""
        return {
            "frames": self.frames,
            "macs": self.macs,
            "fp32_ap": self.fp32_ap,
            "blocks": [asdict(row) for row in self.rows()],
        }

    def table(self) -> str:
        """Return the effects as a table, the worst block first."""
        fp32 = "no labels" if self.fp32_ap is None else f"AP {self.fp32_ap:.2f} in FP32"
        head = ("block in INT8", "MACs", "AP drop", "unmatched", "score error", "box px", "IoU")
        rows = [head, *(row.cells() for row in self.rows())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in rows
        ]
        return "\n".join(
            [
                f"{counted(self.frames, 'frame')}, {fp32}; each block alone in INT8, "
                "the rest in FP32",
                *lines,
                "score error: mean; box px: p99 of the largest shift of a side; IoU: lowest",
            ]
        )


def sensitivity(  # noqa: PLR0913 - what is measured, and on which frames
    path: Path,
    source: Path,
    frames: int,
    stats_path: Path | None = None,
    spec: ModelSpec | None = None,
    *,
    labelled: bool,
    kind: str | None = None,
) -> Sensitivity:
    """Measure each candidate of a model file alone.

    Args:
        path: A float32 ONNX model.
        source: The frames: see ``labelled``.
        frames: How many of them at most, evenly spread.
        stats_path: The model's ranges; collected from `CALIBRATION` frames when None.
        spec: The contract of a model that carries none.
        labelled: Whether ``source`` is a data set, whose validation split is used, or all of it
            where it has none, and not a folder of images.
        kind: The format of the data set; None recognises it.

    Raises:
        ArtifactError: If a file is damaged, or they do not belong together, or there is nothing to
            quantize.
        DataError: If the frames are missing or damaged, or the model has no detection in them.
    """
    model = load_onnx(path)
    if stats_path:
        stats = read_stats(stats_path)
        stats.check_model(path)
    else:
        seen = training_images(source, kind) if labelled else list_images(source)
        stats = collect(path, choose_frames(seen, CALIBRATION), spec)
    spec = spec or stats.spec
    if labelled:
        scenes = labelled_scenes(source, spec.class_names, kind)
    else:
        scenes = unlabelled_scenes(source)
    with Trial(model, spec, scenes.spread(frames)) as trial:
        return measure_sensitivity(model, stats, trial)


def measure_sensitivity(
    model: onnx.ModelProto,
    stats: CalibrationStats,
    trial: Trial,
    target: Target = "tensorrt",
    limits: Limits = INT8_LIMITS,
) -> Sensitivity:
    """Measure each candidate of a model alone.

    Args:
        model: The float32 model.
        stats: Its ranges.
        trial: The frames, on which the model itself has run.
        target: What the graph is for.
        limits: When a detection counts as lost.

    Raises:
        ArtifactError: If the model has nothing to quantize, or the stats lack a tensor.
    """
    found = candidates(model, target)
    if not found:
        raise ArtifactError("the model has no layer to quantize")
    effects = effects_alone(model, stats, trial, found, target, limits)
    total = sum(macs(model).values())
    return Sensitivity(len(trial), total, trial.ap, effects, limits)


def effects_alone(
    model: onnx.ModelProto,
    stats: CalibrationStats,
    trial: Trial,
    found: Sequence[Candidate],
    target: Target = "tensorrt",
    limits: Limits = INT8_LIMITS,
) -> dict[Candidate, Effect]:
    """Measure each of some candidates alone; takes what `measure_sensitivity` does."""
    effects = {}
    with tqdm(found, desc="sensitivity", disable=None) as bar:
        for candidate in bar:
            alone = quantized(model, stats, [candidate], target)
            effects[candidate] = trial.effect(alone, candidate.name).without_pairs(limits)
    return effects


def candidates(model: onnx.ModelProto, target: Target = "tensorrt") -> list[Candidate]:
    """List the candidates for INT8, in the order of the graph.

    Convolutions for which TensorRT has no good INT8 kernel are none there.
    """
    blocks, counts = block_names(model), macs(model)
    groups: dict[tuple[str, str], list[Point]] = {}
    wiring = Wiring(model.graph)
    for point in points(wiring, target):
        if target == "tensorrt" and not (point.has_kernel or point.is_first):
            continue
        block = blocks[label(wiring.nodes[point.index])]
        kind = "first conv" if point.is_first else point.kind
        groups.setdefault((block, kind), []).append(point)
    return [
        Candidate(*key, tuple(group), sum(counts[label(wiring.nodes[p.index])] for p in group))
        for key, group in groups.items()
    ]


def split(model: onnx.ModelProto, blocks: Iterable[Candidate]) -> dict[Candidate, list[Candidate]]:
    """Split each block that has several layers into candidates of one layer each."""
    counts, nodes = macs(model), model.graph.node
    return {
        block: [
            Candidate(name, block.kind, (point,), counts[name])
            for point in block.points
            for name in (label(nodes[point.index]),)
        ]
        for block in blocks
        if len(block.points) > 1
    }


def quantized(
    model: onnx.ModelProto,
    stats: CalibrationStats,
    chosen: Iterable[Candidate],
    target: Target = "tensorrt",
) -> onnx.ModelProto:
    """Return a copy of a float32 model with these candidates, and nothing else, in INT8."""
    return quantize(model, stats, *patterns(model, chosen, target), target)


def patterns(
    model: onnx.ModelProto, chosen: Iterable[Candidate], target: Target = "tensorrt"
) -> tuple[str, str]:
    """Return the ``include`` and ``exclude`` by which `quantize` takes these candidates only."""
    inside = {point for candidate in chosen for point in candidate.points}
    default = set(default_points(points(Wiring(model.graph), target), target))
    return _pattern(inside - default), _pattern(default - inside)


def damage(effect: Effect, limits: Limits = INT8_LIMITS) -> tuple[float, float]:
    """Return the loss of an effect: points of AP, then lost detections and shifted scores."""
    moved = effect.share(limits).share + (effect.figures.mean_score_error or 0.0)
    return max(0.0, effect.ap_drop or 0.0), moved


def _cell(value: float | None, form: str) -> str:
    if value is None:
        return "-"
    text = format(value, form)
    return text if float(text) else format(0.0, form)  # no minus before a zero


def _pattern(some: set[Point]) -> str:
    scopes = sorted(some, key=lambda point: point.index)
    return f"^({'|'.join(re.escape(p.scope) for p in scopes)})$" if scopes else ""
