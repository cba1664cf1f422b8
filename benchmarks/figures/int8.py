"""Where INT8 goes in a network, and how a tensor's range becomes a scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from edgedetr.calib.histogram import BINS, Histogram
from edgedetr.calib.methods import METHODS, Method
from edgedetr.calib.placement import default_points, points
from edgedetr.calib.scales import amax_from_histogram
from edgedetr.graph.exact import exact_session, run_session
from edgedetr.graph.int8 import scale_from_amax
from edgedetr.graph.macs import macs
from edgedetr.graph.model_file import load_onnx
from edgedetr.graph.subgraph import ending_at
from edgedetr.graph.wiring import Wiring, label
from edgedetr.runtime.images import read_image
from edgedetr.runtime.preprocess import Preprocessor
from figures.drawing import LINE, WIDTH, Drawing

if TYPE_CHECKING:
    import onnx

    from figures.scene import Scene

PARTS = {
    "backbone": "/backbone/",
    "encoder": "/encoder",
    "query choice": "/enc_",
    "decoder": "/decoder/",
}
"""Parts of the network by what the labels of their nodes hold, in the order of the graph."""
ROW = 26
"""Height of a part's row."""
BARS = 92
"""Bars of the histogram."""
CHART = 130
"""Height of the histogram."""


def int8(scene: Scene) -> Drawing:
    """Draw the share of each part that is INT8, and the histogram of one tensor with its clips."""
    model = load_onnx(scene.fp32)
    drawing = Drawing(
        "int8",
        "For each part of the network the share of its multiply-accumulates that is INT8 by "
        "default, and the histogram of one activation with the ends that four methods choose.",
        LINE * 4 + ROW * len(PARTS) + 20 + LINE * 4 + CHART + 36 + LINE * (len(METHODS) + 1) + 10,
    )
    top = _placement(drawing, model)
    _range(drawing, scene, model, top + 24)
    return drawing


def _placement(drawing: Drawing, model: onnx.ModelProto) -> float:
    """Draw one row a part; return where they end."""
    wiring, costs = Wiring(model.graph), macs(model)
    quantized = {label(wiring.nodes[p.index]) for p in default_points(points(wiring))}
    shares = {
        part: (
            sum(n for name, n in costs.items() if _part(name) == part),
            sum(n for name, n in costs.items() if _part(name) == part and name in quantized),
        )
        for part in PARTS
    }
    total, inside = (sum(column) for column in zip(*shares.values(), strict=True))
    drawing.text(0, LINE, "1  Where Q/DQ go by default, for TensorRT", bold=True, size=14)
    drawing.lines(
        0,
        2 * LINE + 1,
        (f"Multiply-accumulates of the teacher, {total / 1e6:.0f} M, of which "
         f"{inside / total:.0%} are INT8 (blue):",
         "convolutions, but neither the first nor what chooses and decodes queries."),
    )  # fmt: skip
    top, left = 3 * LINE + 12.0, 96
    scale = (WIDTH - left - 60) / max(whole for whole, _ in shares.values())
    for part, (whole, some) in shares.items():
        drawing.text(0, top + 14, part)
        drawing.rect(left, top, whole * scale, 18, "line")
        drawing.rect(left, top, some * scale, 18, "blue")
        drawing.text(left + whole * scale + 6, top + 14, f"{some / whole:.0%}", "soft")
        top += ROW
    return top


def _part(name: str) -> str:
    found = [part for part, text in PARTS.items() if text in name]
    return found[-1] if found else next(iter(PARTS))


def _range(drawing: Drawing, scene: Scene, model: onnx.ModelProto, top: float) -> None:
    """Draw the histogram of a tensor whose range is cut much, and a line for each method."""
    histogram = _most_clipped(scene, model)
    values = int(histogram.counts.sum())
    methods = cast("tuple[Method, ...]", METHODS)
    ends: dict[str, float] = {m: amax_from_histogram(histogram, m) for m in methods}
    drawing.text(0, top + LINE, "2  How a range becomes a scale", bold=True, size=14)
    drawing.lines(
        0,
        top + 2 * LINE + 1,
        (f"Magnitudes of one activation, {values / 1e6:.1f} M values of {len(scene.inputs)} "
         "frames; bars by logarithm.",
         "127 steps reach from 0 to amax; what lies beyond is clipped to it."),
    )  # fmt: skip
    top += 3 * LINE + 20
    end = histogram.max * 1.02
    edges = np.linspace(0, end, BARS + 1)
    centres = (np.arange(BINS) + 0.5) * histogram.width
    counts, _ = np.histogram(centres, edges, weights=histogram.counts)
    heights = np.log1p(counts) / np.log1p(counts.max()) * CHART
    wide = WIDTH / BARS
    clipped = edges[:-1] >= ends["mse"]
    for colour, chosen in (("blue", ~clipped), ("orange", clipped)):
        bars = [
            (i * wide, top + CHART - heights[i], wide * 0.86, heights[i])
            for i in np.flatnonzero(chosen).tolist()
        ]
        drawing.bars(bars, colour)
    drawing.path([(0, top + CHART), (WIDTH, top + CHART)])
    _name_ends(drawing, ends, end, top)
    drawing.text(0, top + CHART + 15, "0", "soft", size=12)
    drawing.text(
        WIDTH, top + CHART + 15, f"{histogram.max:.1f}, the largest", "soft", size=12, anchor="end"
    )
    _table(drawing, ends, histogram, top + CHART + 40)


def _name_ends(drawing: Drawing, ends: dict[str, float], end: float, top: float) -> None:
    """Draw a line for each method; lines that stand close begin below one another's names."""
    right, row = float(WIDTH), 0
    for method, amax in sorted(ends.items(), key=lambda item: -item[1]):
        x = amax / end * WIDTH
        row = row + 1 if x > right - 70 else 0
        drawing.path([(x, top + 15 * row - 4), (x, top + CHART)], "ink", dashed=True)
        drawing.text(x - 4, top + 15 * row + 6, method, "ink", size=12, anchor="end")
        right = x


def _table(drawing: Drawing, ends: dict[str, float], histogram: Histogram, top: float) -> None:
    """Write what each method chooses and costs."""
    columns = (0, 130, 230, 340)
    rows = [("method", "amax", "scale", "clipped")]
    centres = (np.arange(BINS) + 0.5) * histogram.width
    for method, amax in ends.items():
        share = histogram.counts[centres > amax].sum() / histogram.counts.sum()
        name = f"{method} (the default)" if method == "mse" else method
        rows.append((name, f"{amax:.2f}", f"{scale_from_amax(amax):.4f}", f"{share:.4%}"))
    for index, row in enumerate(rows):
        for x, words in zip(columns, row, strict=True):
            drawing.text(x, top + LINE * index, words, "soft" if index == 0 else "ink", size=12)


def _most_clipped(scene: Scene, model: onnx.ModelProto) -> Histogram:
    """Return what INT8 convolutions read of whose range mse leaves the smallest part."""
    wiring = Wiring(model.graph)
    names = list(dict.fromkeys(p.tensor for p in default_points(points(wiring))))
    histograms = {name: Histogram() for name in names}
    session = exact_session(ending_at(model, names), scene.fp32.name)
    spec = scene.teacher.spec
    preprocess, feed = Preprocessor(spec), np.empty((1, 3, *spec.input_hw), np.float32)
    for path in scene.images[: len(scene.inputs)]:
        preprocess(read_image(path), feed[0])
        values = run_session(session, names, {spec.input_name: feed}, scene.fp32.name)
        for histogram, value in zip(histograms.values(), values, strict=True):
            histogram.add(value)
    shares = {n: amax_from_histogram(h) / h.max for n, h in histograms.items() if h.max}
    return histograms[min(shares, key=lambda name: shares[name])]
