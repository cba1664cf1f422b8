"""Text for a reader: safe on a terminal whatever it holds, and with the right plural."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Put text on one line and escape what is not printable.

    >>> print(printable("a\x1b[31m.png\nedgedetr: all fine"))
    a\x1b[31m.png edgedetr: all fine
    """
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def shortened(text: str, most: int) -> str:
    """Leave out the middle of a text that is too long: its end says what to do.

    >>> shortened("abcdefghijklmnopqrstuvwxyz", 11)
    'abc ... xyz'
    """
    if len(text) <= most:
        return text
    half = (most - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "frame"), counted(2, "frame")
    ('1 frame', '2 frames')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
