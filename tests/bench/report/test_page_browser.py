"""The page in a real browser: no error, every figure, tables that sort, frames that toggle."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow
BESIDE = runpy.run_path(str(Path(__file__).with_name("chromium.py")))
PROGRAM = BESIDE["find_chromium"]()


@pytest.fixture(scope="module")
def page(reported_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The report of a whole run, opened."""
    if not PROGRAM:
        pytest.skip("there is no Chromium here")
    with BESIDE["Page"](PROGRAM, tmp_path_factory.mktemp("profile")) as browser:
        browser.open(reported_run / "report.html")
        yield browser


def column(table: str, place: int) -> str:
    """The script that reads a column's texts, top down."""
    rows = f"document.querySelector('{table}').tBodies[0].rows"
    return f"[...{rows}].map(row => row.cells[{place}].firstChild.textContent.trim())"


def test_the_console_says_nothing_and_every_figure_is_there(page: Any, reported_run: Path) -> None:
    text = page.value("document.body.innerText")
    report = json.loads((reported_run / "report.json").read_text(encoding="utf-8"))
    for model in report["models"]:
        assert model["name"] in text
        for figure in ("ap", "ap50"):
            assert f"{model[figure]:.3f}" in text
        for times in (model["latency_ms"], model["model_latency_ms"]):
            assert all(f"{value:.2f}" in text for value in times.values())
        for parts in model["slices"].values():
            known = (part for part in parts.values() if part["objects"])
            assert all(f"{part['ap50']:.3f}" in text for part in known)
        for name, part in model["reliability"].items():
            assert part["ece"] is None or f"{part['ece']:.3f}" in text, name
    for worst in report["worst_frames"]:
        assert worst["frame"] in text
    assert page.value("document.querySelectorAll('svg[role=img]').length") > 10
    assert page.faults == []


def test_nothing_is_wider_than_the_window(page: Any) -> None:
    for width in (1280, 400):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        page.call("Emulation.setDeviceMetricsOverride", **size)
        assert page.value("document.documentElement.scrollWidth") <= width
    page.call("Emulation.clearDeviceMetricsOverride")


def test_a_click_on_a_head_sorts_the_rows(page: Any) -> None:
    table = "table.slices"
    own = page.value(column(table, 0))
    click = f"document.querySelector('{table}').tHead.rows[0].cells[{{}}].firstChild.click()"
    page.value(click.format(1))
    counts = [int(text) for text in page.value(column(table, 1))]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]
    page.value(click.format(1))
    counts = [int(text) for text in page.value(column(table, 1))]
    assert counts == sorted(counts)
    page.value(click.format(0))
    assert page.value(column(table, 0)) == sorted(own)
    page.value(click.format(0))
    page.value(click.format(0))
    assert page.value(column(table, 0)) == own


def test_a_switch_hides_a_models_boxes(page: Any) -> None:
    shown = "getComputedStyle(document.querySelector('.frames .layer.c0')).display"
    assert page.value(shown) != "none"
    page.value("document.querySelector('#show-c0').click()")
    assert page.value(shown) == "none"
    assert page.value(shown.replace("c0", "truth")) != "none"
    page.value("document.querySelector('#show-c0').click()")
    assert page.value(shown) != "none"


def test_dark_and_light_differ_and_stay_legible(page: Any) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.call("Emulation.setEmulatedMedia", features=[feature])
        for script in ("background-color", "color"):
            value = page.value(f"getComputedStyle(document.body).getPropertyValue('{script}')")
            grounds.append(sum(int(part) for part in value[4:-1].split(",")) / 3)
    page.call("Emulation.setEmulatedMedia", features=[])
    light, ink, dark, chalk = grounds
    assert light - ink > 100
    assert chalk - dark > 100


def test_it_prints(page: Any) -> None:
    printed = page.pdf()
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") >= 2
