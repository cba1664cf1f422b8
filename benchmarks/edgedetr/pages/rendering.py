"""Fill a template into a page that loads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

State = Literal["", "good", "bad", "undecided"]

_SHARED = Path(__file__).parent


def rendered(template: Path, **values: object) -> str:
    """Fill a Jinja template.

    Args:
        template: What it includes lies beside it or here: ``page.css``, ``charts.html.jinja``.
        values: What it shows; a name that is missing is an error, and text is escaped.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, _SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(**values)


@dataclass(frozen=True)
class Tile:
    """One answer.

    Attributes:
        question: What is answered.
        answer: A word or a figure.
        detail: What it rests on.
        state: How the page colours it; empty for an answer that is neither good nor bad.
    """

    question: str
    answer: str
    detail: str
    state: State = ""
