"""The values of COCO's entries, as converters write them: numbers as text, flags as words.

What can only mean one thing is read; everything else is a ValueError that says what was wanted.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

MOST = 1 << 63
"""Ids, sizes and coordinates are smaller: they fit into 64 bits, and products of two are finite."""
_FLAGS = {"0": False, "1": True, "false": False, "true": True}


def whole_number(value: object) -> int:
    """Return an id or a size.

    >>> whole_number("12"), whole_number(3.0)
    (12, 3)
    """
    number = value
    if (isinstance(value, str) and value.strip().isdecimal() and len(value) < 20) or (
        isinstance(value, float) and value.is_integer()
    ):
        number = int(value)
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(f"{short(value)}, wanted a whole number")  # noqa: TRY004 - a file's value
    if abs(number) >= MOST:
        raise ValueError(f"{short(value)}, wanted a number below 2^63")
    return number


def finite_number(value: object) -> float:
    """Return a coordinate or a score.

    >>> finite_number("1.5")
    1.5
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{short(value)}, wanted finite numbers")
    if abs(number) >= MOST:
        raise ValueError(f"{short(value)}, wanted a number below 2^63")
    return number


def crowd_flag(value: object) -> bool:
    """Return ``iscrowd``: 0, 1, false or true, as a value or as text.

    >>> crowd_flag("0"), crowd_flag("True")
    (False, True)
    """
    if not is_crowd_flag(value):
        raise ValueError(f"iscrowd {short(value)}, wanted 0 or 1")
    return _FLAGS[str(value).strip().lower()]


def is_crowd_flag(value: object) -> bool:
    """Tell whether a value can be ``iscrowd``."""
    if isinstance(value, int):
        return value in (0, 1)
    return isinstance(value, str) and value.strip().lower() in _FLAGS


def class_name(value: object) -> str:
    """Return the name of a category."""
    if not is_name(value):
        raise ValueError(f"name {short(value)}, wanted printable text")
    return str(value)


def is_name(value: object) -> bool:
    """Tell whether a value can be a class's name."""
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def reason(error: Exception) -> str:
    """Describe what is wrong with an entry: a missing key, a value, or that it is no object."""
    if isinstance(error, KeyError):
        return f"no {error}"
    return "no JSON object" if isinstance(error, TypeError) else str(error)


def short(value: object) -> str:
    """Show a value of a file in a message, however long it is."""
    text = ascii(value) if isinstance(value, str) else _shown(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def repeated(values: Iterable[Hashable]) -> list[Hashable]:
    """Return what is there more than once.

    >>> repeated([3, 1, 3])
    [3]
    """
    return [value for value, count in Counter(values).items() if count > 1]


def _shown(value: object) -> str:
    try:
        return repr(value)
    except (ValueError, RecursionError):  # thousands of digits, or lists within lists
        return f"a {type(value).__name__} too large to show"
