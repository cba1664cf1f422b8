import math

import pytest

from edgedetr.distill.comparison.page import as_text, comparison_page, interval_note, number, table
from edgedetr.distill.comparison.statistics import (
    mean,
)


def test_the_memory_of_a_gpu_is_the_most_of_any_seed(comparison, run, three_arms):
    found = comparison({"none": [run(1.0, memory=100.0), run(2.0, memory=120.0)]})
    assert found.as_dict()["arms"]["none"]["peak_memory_mib"] == 120.0
    assert table(found)[0].memory == "120"
    assert "GPU memory" in comparison_page(found, "x")
    assert "GPU memory" not in comparison_page(three_arms(), "x")


def test_the_table_has_the_highest_mean_first(three_arms):
    rows = table(three_arms())
    assert [row.name for row in rows] == ["a+b", "none", "worse"]
    assert (rows[0].ap, rows[0].gain, rows[0].interval) == (
        "25.0 ± 4.6",
        "+3.0",
        f"{number(-3.6)} to +9.6",
    )
    assert (rows[0].ms_per_step, rows[0].cost) == ("15.0", "1.50")
    assert (rows[1].gain, rows[1].interval) == ("reference", "")
    assert (rows[2].gain, rows[2].interval) == (number(-1.0), f"{number(-3.5)} to +1.5")


def test_the_text_has_every_arm_and_the_teacher(three_arms):
    first_words = [line.split()[0] for line in as_text(three_arms()).splitlines()]
    assert first_words == ["arm", "a+b", "none", "worse", "teacher"]


def test_the_page_shows_every_arm_with_its_curve_and_its_band(three_arms):
    page = comparison_page(three_arms(), "a comparison")
    for name in ("none", "worse", "a+b"):
        assert page.count(f"</i>{name}</th>") == 1
        assert page.count(f"</svg>{name}</li>") == 1
        assert f"{name}: p50" in page
    for style in ("c0", "c1", "c2"):
        assert page.count(f'<path class="line {style}" d="M52') == 1
        assert page.count(f'<path class="band {style}"') == 1
        assert page.count(f'<path class="bars {style}"') == 1
    assert "Student&#39;s t at 95 %, over the 3 differences" in page
    assert "40.0 % on the same frames" in page
    assert "are trained; the command" not in page
    assert "http" not in page


def test_the_page_of_one_seed_claims_no_interval(comparison, run):
    page = comparison_page(comparison({"none": [run(20.0)], "clock": [run(19.0)]}), "x")
    assert "one seed: no interval" in page
    assert "a gain cannot be told from the chance" in page
    assert 'class="band' not in page
    assert f"{number(-1.0)} points" in page


def test_the_page_tells_that_seeds_are_missing(comparison, run):
    page = comparison_page(comparison({"none": [run(20.0)]}, planned=3), "x")
    assert "1 of 3 seeds are trained" in page


def test_the_page_stands_what_was_not_measured(comparison, run):
    page = comparison_page(comparison({"none": [run(math.nan, step_ms=())]}, teacher=math.nan), "x")
    assert "nan" not in page


@pytest.mark.parametrize(
    ("seeds", "wanted"),
    [(1, "no interval"), (2, "over the 2 differences"), (5, "may be chance")],
)
def test_the_note_says_what_the_interval_is_worth(seeds, wanted):
    assert wanted in interval_note(seeds)


def test_a_figure_that_rounds_to_zero_has_no_minus():
    assert number(-0.04, "+.1f") == "+0.0"
    assert mean([1.0, 2.0]) == 1.5
