"""Templates are filled strictly, and what they show is escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from jinja2 import UndefinedError

from edgedetr.pages.rendering import rendered

if TYPE_CHECKING:
    from pathlib import Path


def test_values_are_escaped(tmp_path: Path) -> None:
    template = tmp_path / "page.html.jinja"
    template.write_text("<p>{{ text }}</p>", encoding="utf-8")
    assert rendered(template, text="<script>") == "<p>&lt;script&gt;</p>"


def test_a_missing_value_is_an_error(tmp_path: Path) -> None:
    template = tmp_path / "page.html.jinja"
    template.write_text("{{ text }}", encoding="utf-8")
    with pytest.raises(UndefinedError, match="text"):
        rendered(template)


def test_the_shared_style_sheet_can_be_included(tmp_path: Path) -> None:
    template = tmp_path / "page.html.jinja"
    template.write_text("<style>{% include 'page.css' %}</style>", encoding="utf-8")
    assert len(rendered(template)) > len("<style></style>")
