"""Fill a template into a page that loads nothing and runs no script."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

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
