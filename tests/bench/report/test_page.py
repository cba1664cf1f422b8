"""The page of the report: it is whole, well formed and safe."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from pathlib import Path


class Links(HTMLParser):
    """Collects what a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.scripts = self.parts = 0
        self.described: list[str] = []

    def handle_starttag(  # type: ignore[explicit-override]
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        values = dict(attrs)
        self.found += [v or "" for k, v in attrs if k in {"src", "href", "xlink:href", "data"}]
        self.scripts += tag in {"script", "link", "iframe"}
        self.parts += tag in {"link", "iframe"} or (tag == "script" and bool(attrs))
        if values.get("role") == "img":
            self.described.append(values.get("aria-label") or "")


def test_page_needs_nothing_but_itself_and_shows_every_frame(reported_run: Path) -> None:
    html = (reported_run / "report.html").read_text()
    links = Links()
    links.feed(html)
    assert (links.scripts, links.parts) == (1, 0)  # what sorts tables lies in the page
    # a picture for each of four frames, and two for each of the worst, which all of them are
    assert len(links.found) == 4 + 4 * 2
    assert all(v.startswith("data:image/jpeg;base64,") for v in links.found)
    assert not re.search(r"https?://|url\(|@import", html)
    # frames and the worst ones; precision over recall, and over the score, of two classes, and that
    # of all; two latencies, loss and accuracy
    assert len(links.described) == 4 + 4 * 2 + 2 + 3 + 2 + 2
    assert all(len(text) > 20 for text in links.described)


def test_drawings_are_well_formed_and_hold_the_boxes(reported_run: Path) -> None:
    html = (reported_run / "report.html").read_text()
    drawings = [ET.fromstring(svg) for svg in re.findall(r"<svg .*?</svg>", html, re.DOTALL)]  # noqa: S314 - our own page
    assert "nan" not in " ".join(e.get("d") or "" for d in drawings for e in d.iter())
    frames = [d for d in drawings if (d.get("aria-label") or "").startswith("Frame")]
    layers = {
        layer.get("class"): [
            tuple(float(rect.get(k) or "nan") for k in ("x", "y", "width", "height"))
            for rect in layer.iter("rect")
        ]
        for layer in frames[0].iter("g")
    }
    car, walker, nobody = (16, 8, 40, 40), (80, 12, 16, 32), (100, 0, 20, 20)
    assert layers == {
        "layer c0": [car, walker],
        "layer c1": [car, nobody],
        "layer c2": [car, nobody],
        "layer truth": [car, walker],
    }


def test_texts_are_escaped(reported_run: Path) -> None:
    html = (reported_run / "report.html").read_text()
    assert "edgedetr export qdq &lt;student&gt;" in html
    assert "<student>" not in html
