"""The page that ``edgedetr verify --html`` writes."""

import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from typing_extensions import override

from edgedetr.export.verify.activations import Activations
from edgedetr.export.verify.block_errors import BlockError
from edgedetr.export.verify.difference import Difference
from edgedetr.export.verify.figures import figures_from_pairs
from edgedetr.export.verify.limits import FP16_LIMITS, FP32_LIMITS, INT8_LIMITS
from edgedetr.export.verify.lost_share import lost_share
from edgedetr.export.verify.matching import Pairs
from edgedetr.export.verify.page import bars, page, tiles
from edgedetr.export.verify.report import ParityReport
from edgedetr.export.verify.scan import Scan


@pytest.fixture
def write(edgedetr, tiny_onnx, tmp_path):
    """Verify two tiny models on grey frames; returns exit status and page."""
    images = tmp_path / "images"
    images.mkdir()
    for grey in (255, 160, 200):
        cv2.imwrite(str(images / f"{grey}.png"), np.full((20, 40, 3), grey, np.uint8))

    def run(*options, **changes):
        a = tiny_onnx().rename(tmp_path / "a.onnx")
        b = tiny_onnx(**changes).rename(tmp_path / "b.onnx")
        out = tmp_path / "deep" / "v.html"
        status, _, _ = edgedetr("verify", a, b, "--images", images, "--html", out, *options)
        return status, out.read_text(encoding="utf-8")

    return run


def test_a_page_of_equal_models(write):
    status, html = write("--taps")
    assert status == 0
    assert "<strong>passed</strong>" in html
    assert "b.onnx (FP32) keeps the detections of a.onnx (FP32) within the limits" in html
    assert html.count('<figure class="frame') == 3
    assert html.count('class="layer reference"') == html.count('class="layer candidate"') == 3
    assert "Car 0.98" in html
    assert "Block by block" in html
    assert "<b>160.png</b>" in html


def test_a_page_of_models_that_differ(write):
    status, html = write(bias=((-4.5, -9.0), (-9.0, -9.0)))
    assert status == 1
    assert "Max score error 0.1" in html
    assert re.search(r'class="number broken">0\.\d+</td><td class="number">0.001<', html)
    assert html.count('<figure class="chart">') == 1  # no box moved, so only scores have a chart


def test_it_loads_nothing_and_every_tag_is_closed(write):
    _, html = write()

    class Tags(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open: list[str] = []
            self.links: list[str] = []

        @override
        def handle_starttag(self, tag, attrs):
            self.links += [v or "" for k, v in attrs if k in {"src", "href"}]
            if tag not in {"meta", "br"}:
                self.open.append(tag)

        @override
        def handle_startendtag(self, _, attrs):
            self.links += [v or "" for k, v in attrs if k in {"src", "href"}]

        @override
        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert len(tags.links) == 3
    assert all(link.startswith("data:image/jpeg;base64,") for link in tags.links)
    assert "<script" not in html


def block(name, own, limit, carried=None):
    return BlockError(name, "int8", 1, "t", Difference(own, 1.0), limit, carried)


def report_of(lost, limits):
    """A report of 40 frames with one detection each."""
    share = lost_share([1] * lost + [0] * (40 - lost), [1] * 40)
    one, none = np.ones(1), np.zeros(0)
    pairs = [Pairs(none, none, none, 1)] * lost + [Pairs(0 * one, 0 * one, one, 0)] * (40 - lost)
    figures = figures_from_pairs(pairs, 40, 0)
    return ParityReport(figures, share, limits, 0.3, "a.onnx", "12", "b.onnx", "34", "verify")


@pytest.mark.parametrize(
    ("lost", "limits", "answer", "state"),
    [
        (0, INT8_LIMITS, "passed", "good"),
        (0, FP16_LIMITS, "undecided", "undecided"),
        (20, INT8_LIMITS, "failed", "bad"),
        (1, FP32_LIMITS, "failed", "bad"),
    ],
)
def test_the_first_tile_is_the_verdict(lost, limits, answer, state):
    report = report_of(lost, limits)
    verdict, share, *_ = tiles(report)
    assert (verdict.answer, verdict.state) == (answer, state)
    assert verdict.detail == f"{40 - lost} matched, {lost} unmatched in 40 frames"
    assert share.answer == f"{lost / 40:.2%}"
    assert share.detail.startswith(f"{lost} of 40")
    assert ("upper bound" in share.detail) == (not limits.exact)
    assert f"{limits.lost_share:.2%} allowed" in share.detail
    assert f"<strong>{answer}</strong>" in page(report)


def test_an_undecided_page_estimates_the_frames_that_decide():
    html = page(report_of(0, FP16_LIMITS))
    assert "0 of 40 detections lost" in html
    assert "more frames would decide." in html


def test_bars_lie_on_a_logarithmic_axis():
    blocks = (block("a", 1e-6, 1e-3, 1.0), block("b", 0.0, 0.1), block("c", float("inf"), 0.1))
    found = bars(Activations(1, (), blocks, ""))
    assert [(bar.own, bar.limit, bar.carried) for bar in found] == [
        (0, 50, 100),
        (0, pytest.approx(83.3), None),
        (100, pytest.approx(83.3), None),
    ]


def test_the_first_diverging_block_is_named():
    fine = Activations(1, (Scan("m", 3, ()),), (block("a", 0.05, 0.1),), "")
    assert fine.first_diverging == ""
    assert fine.lines == [
        "m: 3 activations, all finite",
        "1 block compared, none diverges",
    ]
    worse = Activations(1, (), (block("a", 0.05, 0.1), block("b", 0.2, 0.1)), "")
    assert worse.first_diverging == worse.to_dict()["first_departing_block"] == "b"
    assert worse.lines == ["first diverging block: b (int8): own error 0.2, limit 0.1, worst in t"]
    assert worse.block_table().splitlines()[2].endswith("diverges")
