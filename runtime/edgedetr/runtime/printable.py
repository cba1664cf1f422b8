"""Show text that others wrote: names of files and classes may hold what a terminal obeys."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Put text on one line and escape what is not printable.

    >>> print(printable("a\x1b[31m.png\nedgedetr: all fine"))
    a\x1b[31m.png edgedetr: all fine
    """
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
