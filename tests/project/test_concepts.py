"""docs/concepts.md: its figures are what the code draws today, and its examples run."""

import re
import shlex
from base64 import b64decode
from pathlib import Path
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "docs" / "figures"
PAGE = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"-?\d+\.?\d*")
LEVELS = 2.0
"""Mean difference of two images, in grey levels, that rounding explains."""


def elements(svg):
    """Return tag, attributes and text of each element of a figure, but for its images."""
    for element in ET.fromstring(svg).iter():  # noqa: S314 - a file of this repository
        values = {k: v for k, v in element.attrib.items() if k != "href"}
        yield f"{element.tag} {sorted(values.items())} {(element.text or '').strip()}"


def images(svg):
    """Return the images of a figure."""
    for data in re.findall(r"base64,([^\"]+)\"", svg):
        pixels = cv2.imdecode(np.frombuffer(b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        yield pixels.astype(float)


def differences(drawn, stored):
    """Return what differs between two figures by more than rounding."""
    ours, theirs = list(elements(drawn)), list(elements(stored))
    if len(ours) != len(theirs):
        return [f"{len(ours)} elements, not {len(theirs)}"]
    found = []
    for a, b in zip(ours, theirs, strict=True):
        x, y = (np.array([float(n) for n in NUMBER.findall(text)]) for text in (a, b))
        alike = NUMBER.sub("", a) == NUMBER.sub("", b) and len(x) == len(y)
        if not alike or not np.allclose(x, y, rtol=0.02, atol=0.11):
            found.append(f"{a}, not {b}")
    pairs = list(zip(images(drawn), images(stored), strict=True))
    found += ["an image" for x, y in pairs if x.shape != y.shape or np.abs(x - y).mean() > LEVELS]
    return found


def test_the_page_shows_every_figure_that_is_drawn():
    shown = re.findall(r"^!\[.{20,}\]\(figures/(\w+)\.svg\)$", PAGE, re.MULTILINE)
    assert sorted(shown) == sorted(path.stem for path in FIGURES.iterdir())
    assert 5 <= len(shown) <= 7


def test_the_readme_begins_with_a_picture_of_a_result_and_is_one_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^!\[.{20,}\]\(docs/result\.jpg\)$", text.split("## Start")[0], re.MULTILINE)
    assert (ROOT / "docs" / "result.jpg").stat().st_size < 150_000
    assert len(text.splitlines()) <= 160


def test_figures_are_small_and_load_nothing():
    for path in FIGURES.iterdir():
        svg = path.read_text(encoding="utf-8")
        assert len(svg) < 150_000
        assert "--ink:#1f2328" in svg, "light"
        assert "prefers-color-scheme:dark" in svg
        assert not re.findall(r"<script|url\(|href=\"(?!data:image/)", svg)


def test_another_figure_is_found_out():
    stored = (FIGURES / "int8.svg").read_text(encoding="utf-8")
    assert not differences(stored, stored)
    assert differences(stored.replace(">encoder<", ">decoder<"), stored)
    height = re.findall(r'height="18.0"', stored)
    assert height
    assert differences(stored.replace('height="18.0"', 'height="18.9"'), stored)
    assert differences(stored.replace("</svg>", "<path/></svg>"), stored)
    points = (FIGURES / "points.svg").read_text(encoding="utf-8")
    memory = (FIGURES / "memory.svg").read_text(encoding="utf-8")
    other = re.search(r"base64,[^\"]+", memory)
    assert other
    assert differences(re.sub(r"base64,[^\"]+", other[0], points, count=1), points) == ["an image"]


@pytest.mark.slow
def test_the_figures_are_what_the_code_draws(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from concept_figures import drawings
    from figures.result import result
    from figures.scene import Scene

    scene = Scene(tmp_path)
    drawn = {drawing.name: drawing.svg() for drawing in drawings(scene)}
    assert sorted(drawn) == sorted(path.stem for path in FIGURES.iterdir())
    for name, svg in drawn.items():
        found = differences(svg, (FIGURES / f"{name}.svg").read_text(encoding="utf-8"))
        assert not found, f"{name}: python benchmarks/concept_figures.py draws it again"
    found = cv2.cvtColor(result(scene), cv2.COLOR_RGB2BGR).astype(float)
    stored = cv2.imread(str(ROOT / "docs" / "result.jpg"))
    assert stored is not None
    assert np.abs(found - stored).mean() < LEVELS + 1  # JPEG's own loss


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch, edgedetr, capsys):
    pytest.importorskip("torch")
    (tmp_path / "distill").symlink_to(ROOT / "distill")
    monkeypatch.chdir(tmp_path)
    (commands,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in commands.splitlines():
        status, out, err = edgedetr(*shlex.split(line)[1:])
        assert status == 0, f"{line}\n{out}\n{err}"
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(example, "docs/concepts.md", "exec"), {})  # noqa: S102
    assert re.match(r"passed \d+ of \d+ lost, at most 0\.0\d+$", capsys.readouterr().out)
