from __future__ import annotations

import numpy as np
import pytest

from edgedetr.pages.charts import (
    LARGE,
    MAX_POINTS,
    SMALL,
    Axis,
    Series,
    distribution_chart,
    even_ticks,
    line_chart,
    log_ticks,
    smooth,
)


def series(x: list[float], y: list[float], name: str = "line") -> Series:
    return Series(name, "c0", np.array(x), np.array(y))


def test_axis_maps_ends_to_ends_and_keeps_what_lies_outside_at_the_border() -> None:
    up = Axis("y", 0.0, 2.0, 200.0, 100.0)
    assert up.place([0, 1, 2, 3, -1]).tolist() == [200, 150, 100, 100, 200]
    log = Axis("y", 1.0, 100.0, 0.0, 40.0, log=True)
    assert log.place([1, 10, 100]).tolist() == pytest.approx([0, 20, 40])


def test_line_chart_places_points_in_the_plotted_area() -> None:
    chart = line_chart("t", [series([0, 10], [0.0, 1.0])], ("step", "AP"), (0.0, 1.0))
    width, height = SMALL
    assert (chart.width, chart.height) == SMALL
    assert chart.lines[0].path == f"M52.0,{height - 42}.0L{width - 20}.0,14.0"
    assert chart.description == "line: 0 at 0 to 1 at 10"
    assert [text for _, text in chart.x.ticks] == ["0", "2", "4", "6", "8", "10"]


def test_what_cannot_be_drawn_is_left_out() -> None:
    nothing = series([0, 1], [np.nan, np.nan], "nothing")
    falling = series([0, 1, 2], [0.0, 10.0, 100.0], "falling")
    chart = line_chart("t", [nothing, falling], ("x", "y"), size=LARGE, log_y=True)
    assert [line.name for line in chart.lines] == ["falling"]
    assert chart.lines[0].path.count("L") == 1  # zero has no logarithm
    assert line_chart("t", [nothing], ("x", "y")).description == "no data"


def test_a_single_point_is_a_dot() -> None:
    chart = line_chart("t", [series([3], [0.5])], ("x", "y"), (0.0, 1.0))
    start, end = chart.lines[0].path[1:].split("L")
    assert start == end


def test_long_lines_are_thinned_and_keep_their_ends() -> None:
    x = list(map(float, range(10_000)))
    chart = line_chart("t", [series(x, x)], ("x", "y"))
    assert chart.lines[0].path.count("L") == MAX_POINTS - 1
    assert chart.description == "line: 0 at 0 to 1e+04 at 9999"


def test_a_band_goes_there_on_its_lower_end_and_back_on_its_upper_one() -> None:
    banded = Series(
        "line",
        "c0",
        np.array([0.0, 5.0, 10.0]),
        np.array([1.0, np.nan, 3.0]),
        np.array([[0.0, np.nan, 2.0], [2.0, np.nan, 4.0]]),
    )
    chart = line_chart("t", [banded], ("x", "y"))
    assert chart.y.high == pytest.approx(4.0 * 1.05)
    x = chart.x.place([0, 10, 10, 0]).tolist()
    y = chart.y.place([0, 2, 4, 2]).tolist()
    wanted = [f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True)]
    assert chart.lines[0].band == "M" + "L".join(wanted) + "z"
    assert line_chart("t", [series([0], [1.0])], ("x", "y")).lines[0].band == ""


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 43, [0, 10, 20, 30, 40]),
        (0.3, 0.5, [0.3, 0.35, 0.4, 0.45, 0.5]),
    ],
)
def test_ticks_are_round(low: float, high: float, wanted: list[float]) -> None:
    assert even_ticks(low, high) == wanted


def test_ticks_of_factors() -> None:
    assert log_ticks(0.9, 30) == [1, 2, 5, 10, 20]
    assert log_ticks(0.01, 100) == [0.01, 0.1, 1, 10, 100]


@pytest.mark.parametrize(
    ("window", "wanted"),
    [(1, [0, 3, 6, 3]), (3, [1.5, 3, 4, 4.5]), (4, [1.5, 3, 4, 4.5]), (99, [1.5, 3, 4, 4.5])],
)
def test_smoothing_averages_neighbours(window: int, wanted: list[float]) -> None:
    assert smooth(np.array([0.0, 3.0, 6.0, 3.0]), window).tolist() == pytest.approx(wanted)


def test_distributions_mark_percentiles_on_a_common_axis() -> None:
    slow, fast = np.linspace(10, 20, 101), np.full(50, 5.0)
    chart = distribution_chart("t", "ms", [("slow", "c0", slow), ("fast", "c1", fast)])
    assert [row.title for row in chart.rows] == [
        "slow: p50 15.0, p99 19.9",
        "fast: p50 5.0, p99 5.0",
    ]
    assert chart.description == "slow: p50 15.0, p99 19.9; fast: p50 5.0, p99 5.0"
    assert chart.x.high == pytest.approx(1.05 * 19.9)
    assert chart.rows[0].marks == pytest.approx(chart.x.place([15.0, 19.9]), abs=0.06)
    assert chart.rows[1].path.count("M") == 1  # all in one bar
    assert chart.rows[1].baseline > chart.rows[0].baseline


def test_a_term_that_starts_at_zero_does_not_stretch_the_axis() -> None:
    chart = line_chart("t", [series([0, 1], [1e-9, 30.0])], ("x", "y"), log_y=True)
    assert chart.y.low == pytest.approx(0.01 / 1.15)
