"""What commands write to a terminal."""

from __future__ import annotations

import click


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    r"""Write text whatever names stand in it: what is not printable is escaped, lines stay.

    >>> echo("a\x1b[31m.png\n  b")
    a\x1b[31m.png
      b
    """
    plain = "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
    click.echo(plain, err=err, nl=nl)
