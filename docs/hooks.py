"""What mkdocs does beside its plug-ins."""  # noqa: INP001 - mkdocs loads it by its path


def on_page_content(html: str, **_: object) -> str:
    """Drop the colons that announce a block of code in docstrings, which Markdown would print.

    >>> on_page_content("<p>::</p><p>In Python::</p>")
    '<p>In Python:</p>'
    """
    return html.replace("<p>::</p>", "").replace("::</p>", ":</p>")
