"""What mkdocs does beside its plug-ins."""  # noqa: INP001 - mkdocs loads it by its path

import re
from pathlib import Path

DOCS = Path(__file__).parent
FIGURE = re.compile(r'<img [^>]*src="[^"]*(figures/[a-z0-9_]+\.svg)"[^>]*>')


def on_page_content(html: str, **_: object) -> str:
    """Drop the colons that announce a block of code in docstrings, and put figures into the page.

    Markdown would print the colons. A figure in the page follows its colours; a linked one cannot.

    >>> on_page_content("<p>::</p><p>In Python::</p>")
    '<p>In Python:</p>'
    >>> on_page_content('<img alt="Frames" src="../figures/frames.svg" />')[:4]
    '<svg'
    """
    html = html.replace("<p>::</p>", "").replace("::</p>", ":</p>")
    return FIGURE.sub(lambda found: (DOCS / found[1]).read_text(encoding="utf-8").strip(), html)
