"""The documentation site: every page in its place, no dead link, every name of the reference."""

import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
NAMES = re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
IMPORTED = re.compile(r"^from (edgedetr[\w.]*) import (.+)$", re.MULTILINE)
STAGES = ["runtime", "distill", "calib", "export", "benchmarks"]


def named(nav):
    """Return the pages below a part of the navigation, in order."""
    if isinstance(nav, str):
        return [nav]
    return [
        page for part in (nav.values() if isinstance(nav, dict) else nav) for page in named(part)
    ]


def anchors(text):
    """Return the anchors of a page's headings, as Python-Markdown makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}


@cache
def text_of(page):
    return page.read_text(encoding="utf-8")


def dead_links(page, text):
    """Return the links of a page that lead nowhere in the documentation."""
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        is_there = place.is_file() and DOCS in place.parents
        if is_there and anchor:
            is_there = anchor in anchors(text if place == page else text_of(place))
        if not is_there:
            yield target


def imported(name):
    """Return what a dotted name stands for."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@cache
def settings():
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def test_the_navigation_names_every_page_once():
    pages = named(settings()["nav"])
    assert sorted(pages) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


@pytest.mark.parametrize(
    "guide", ["KITTI", "Your own data", "Hub teachers", "INT8", "Jetson", "Many GPUs", "C++"]
)
def test_a_newcomer_finds_a_guide_by_its_name(guide):
    (guides,) = (part["Guides"] for part in settings()["nav"] if "Guides" in part)
    (page,) = (entry[guide] for entry in guides if isinstance(entry, dict) and guide in entry)
    assert re.search(r"^(.* )?edgedetr [a-z]+ ", text_of(DOCS / page), re.MULTILINE)


def test_the_reference_reads_every_stage():
    assert settings()["strict"] is True
    (reference,) = (p["mkdocstrings"] for p in settings()["plugins"] if isinstance(p, dict))
    assert reference["handlers"]["python"]["paths"] == STAGES


def test_a_dead_link_is_found_out():
    page = DOCS / "index.md"
    text = "# A (b) c\n[a](#a-b-c) [b](#b) [c](data.md) [d](no.md) [e](../README.md)"
    assert list(
        dead_links(page, f"{text} [f](data.md#speed) [g](data.md#no) [h](https://example.org)")
    ) == [
        "#b",
        "no.md",
        "../README.md",
        "data.md#no",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    assert not list(dead_links(page, text_of(page)))


def test_a_name_that_is_not_there_is_found_out():
    with pytest.raises(AttributeError):
        imported("edgedetr.runtime.errors.NoSuchError")
    with pytest.raises(ModuleNotFoundError):
        imported("no_such_package.name")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_reference_is_there_and_says_what_it_is(name):
    assert imported(name).__doc__


def test_the_reference_has_what_pages_import():
    pages = [ROOT / "README.md", *PAGES]
    used = {
        f"{module}.{name.strip()}"
        for page in pages
        for module, names in IMPORTED.findall(text_of(page))
        for name in names.split(",")
    }
    assert "edgedetr.runtime.Detector" in used
    known = {name if "conversions" not in name else f"{name}.*" for name in NAMES}
    assert not [n for n in used if n not in known and f"{n.rpartition('.')[0]}.*" not in known]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    if not (find_spec("mkdocs") and find_spec("material") and find_spec("mkdocstrings_handlers")):
        pytest.skip("mkdocs is not installed: pip install 'edgedetr[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    reference = (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in reference for name in NAMES)
