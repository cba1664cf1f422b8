"""Figures as geometry: data in, SVG coordinates out; ``charts.html.jinja`` draws them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

SMALL, LARGE = (420, 260), (580, 320)
"""Width and height of a line chart, in user units: about CSS pixels on a wide screen."""
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 14, 42
"""Margins around the plotted area."""
ROWS_WIDTH, ROW_HEIGHT, BAR_HEIGHT = LARGE[0], 74, 36
"""Width of a chart of distributions, height of one model's row and of its highest bar."""
BINS = 60
LOG_RANGE = 3000
"""Factor that an axis of equal factors spans at most: a term that starts at zero is cut off."""
MAX_POINTS = 300
"""Points of a line; longer series are thinned."""


@dataclass(frozen=True, eq=False)
class Series:
    """One line's data.

    Attributes:
        name: As the legend says it.
        style: CSS class that gives colour and dashes.
        x: float64 (N,).
        y: float64 (N,); what is not finite is left out.
        band: Lower and upper end of what surrounds the line, float64 (2, N), or None.
    """

    name: str
    style: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    band: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Axis:
    """A scale from data to user units.

    Attributes:
        label: What it shows, with its unit.
        low: Data value at ``start``.
        high: Data value at ``end``.
        start: User units.
        end: User units.
        log: Whether equal factors take equal space.
    """

    label: str
    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, values: ArrayLike) -> NDArray[np.float64]:
        """Map data to user units; what lies outside goes to the border."""
        value = np.clip(np.asarray(values, np.float64), self.low, self.high)
        low, high = self.low, self.high
        if self.log:
            value, low, high = np.log(value), math.log(low), math.log(high)
        share: NDArray[np.float64] = (value - low) / (high - low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Return where the ticks are, in user units, and what stands there."""
        values = log_ticks(self.low, self.high) if self.log else even_ticks(self.low, self.high)
        return [(_rounded(self, v), f"{v:g}") for v in values]


@dataclass(frozen=True)
class Line:
    """A drawn line: its name, CSS class, SVG path, and that of the band around it or nothing."""

    name: str
    style: str
    path: str
    band: str = ""


@dataclass(frozen=True)
class LineChart:
    """A chart of lines.

    Attributes:
        title: Heading.
        description: What it shows, for those who cannot see it.
        x: The horizontal axis.
        y: The vertical axis.
        lines: The lines, drawn in this order.
    """

    title: str
    description: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    width: int
    height: int


@dataclass(frozen=True)
class Distribution:
    """One row of a chart of distributions: bars as an SVG path, and marks.

    Attributes:
        title: Name of the model and its percentiles.
        style: CSS class that gives the colour.
        path: The outline of the bars.
        baseline: Where the bars stand, in user units.
        marks: Places of the 50th and the 99th percentile, in user units.
    """

    title: str
    style: str
    path: str
    baseline: float
    marks: tuple[float, float]


@dataclass(frozen=True)
class DistributionChart:
    """Histograms one below the other on one horizontal axis."""

    title: str
    description: str
    x: Axis
    rows: tuple[Distribution, ...]
    width: int
    height: int


def line_chart(
    title: str,
    series: Sequence[Series],
    labels: tuple[str, str],
    y_range: tuple[float, float] | None = None,
    *,
    size: tuple[int, int] = SMALL,
    log_y: bool = False,
) -> LineChart:
    """Lay out lines.

    Args:
        title: Heading.
        series: The lines; those without a finite point are left out.
        labels: What the axes show.
        y_range: Ends of the vertical axis; by default those of the data.
        size: Width and height.
        log_y: Equal factors take equal height; data must then be positive where it is drawn.
    """
    kept = [_finite(s, positive=log_y) for s in series]
    kept = [s for s in kept if len(s.x)]
    xs = np.concatenate([s.x for s in kept]) if kept else np.array([0.0, 1.0])
    ys = np.concatenate([_heights(s) for s in kept]) if kept else np.array([1.0, 2.0])
    low, high = y_range or _ends(ys, log=log_y)
    width, height = size
    x = Axis(labels[0], *_apart(float(xs.min()), float(xs.max())), LEFT, width - RIGHT)
    y = Axis(labels[1], low, high, height - BOTTOM, TOP, log_y)
    return LineChart(
        title=title,
        description="; ".join(_in_words(s) for s in kept) or "no data",
        x=x,
        y=y,
        lines=tuple(_line(s, x, y) for s in kept),
        width=width,
        height=height,
    )


def distribution_chart(
    title: str, label: str, rows: Sequence[tuple[str, str, NDArray[np.float64]]]
) -> DistributionChart:
    """Lay out one histogram a row, with its 50th and 99th percentile.

    The axis ends a little beyond the greatest 99th percentile; what took longer is counted in the
    last bar, so that one slow frame does not squeeze the rest.

    Args:
        title: Heading.
        label: What the axis shows.
        rows: Name, CSS class and samples of each row.
    """
    end = 1.05 * max(_percentile(samples, 99) for _, _, samples in rows)
    x = Axis(label, 0.0, end, RIGHT, ROWS_WIDTH - RIGHT)
    drawn = []
    for index, (name, style, samples) in enumerate(rows):
        baseline = TOP + (index + 1) * ROW_HEIGHT - 12
        p50, p99 = _percentile(samples, 50), _percentile(samples, 99)
        drawn.append(
            Distribution(
                title=f"{name}: p50 {p50:.1f}, p99 {p99:.1f}",
                style=style,
                path=_bars(np.clip(samples, 0, end), x, baseline),
                baseline=baseline,
                marks=(_rounded(x, p50), _rounded(x, p99)),
            )
        )
    height = TOP + len(rows) * ROW_HEIGHT + BOTTOM
    description = "; ".join(row.title for row in drawn)
    return DistributionChart(title, description, x, tuple(drawn), ROWS_WIDTH, height)


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Average each value with its neighbours; the ends with those they have.

    >>> smooth(np.array([0.0, 3.0, 6.0, 3.0]), 3).tolist()
    [1.5, 3.0, 4.0, 4.5]
    """
    size = min(window, len(values))
    kernel = np.ones(size - 1 + size % 2)  # odd, so that it has a middle
    weight = np.convolve(np.ones(len(values)), kernel, "same")
    total: NDArray[np.float64] = np.convolve(values, kernel, "same")
    return total / weight


def even_ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Choose round values, at most about ``wanted`` of them.

    >>> even_ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Choose 1, 2, 5 times powers of ten, or only powers of ten over a wide range.

    >>> log_ticks(0.9, 30)
    [1.0, 2.0, 5.0, 10.0, 20.0]
    """
    factors = (1, 2, 5) if high / low < 200 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [round(f * 10.0**p, 12) for p in powers for f in factors]
    return [v for v in values if low * 0.999 <= v <= high * 1.001]


def _finite(series: Series, *, positive: bool) -> Series:
    keep = np.isfinite(series.y) & (series.y > 0 if positive else True)
    chosen = np.flatnonzero(keep)
    if len(chosen) > MAX_POINTS:
        chosen = chosen[np.linspace(0, len(chosen) - 1, MAX_POINTS).round().astype(int)]
    band = None if series.band is None else series.band[:, chosen]
    return Series(series.name, series.style, series.x[chosen], series.y[chosen], band)


def _heights(series: Series) -> NDArray[np.float64]:
    """Return every value that the vertical axis must reach."""
    return series.y if series.band is None else np.concatenate([series.y, *series.band])


def _line(series: Series, x: Axis, y: Axis) -> Line:
    places = x.place(series.x)
    band = ""
    if series.band is not None:
        low, high = (y.place(end) for end in series.band)
        around = np.concatenate([places, places[::-1]]), np.concatenate([low, high[::-1]])
        band = _path(*around) + "z"
    return Line(series.name, series.style, _path(places, y.place(series.y)), band)


def _ends(values: NDArray[np.float64], *, log: bool) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if log:
        return max(low, high / LOG_RANGE) / 1.15, high * 1.15
    return _apart(min(low, 0.0), high * 1.05)


def _apart(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low, low + 1)


def _percentile(samples: NDArray[np.float64], percent: float) -> float:
    """Return one of the samples (nearest rank), as `edgedetr.runtime.timing` does."""
    return float(np.percentile(samples, percent, method="inverted_cdf"))


def _rounded(axis: Axis, value: float) -> float:
    return round(float(axis.place(value)), 1)


def _path(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """Join points; a single one becomes a dot, which round line caps make visible."""
    points = [f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    return "M" + "L".join(points if len(points) > 1 else points * 2)


def _bars(samples: NDArray[np.float64], x: Axis, baseline: float) -> str:
    counts, edges = np.histogram(samples, BINS, (x.low, x.high))
    heights = counts / counts.max() * BAR_HEIGHT
    places = x.place(edges).tolist()
    bars = [
        f"M{left:.1f},{baseline:.1f}V{baseline - height:.1f}H{right:.1f}V{baseline:.1f}z"
        for left, right, height in zip(places[:-1], places[1:], heights.tolist(), strict=True)
        if height
    ]
    return "".join(bars)


def _in_words(series: Series) -> str:
    first, last = (f"{series.y[i]:.3g} at {series.x[i]:.4g}" for i in (0, -1))
    return f"{series.name}: {first}" + ("" if len(series.x) == 1 else f" to {last}")
