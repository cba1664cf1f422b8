"""Find nodes by a regular expression of their names, in bounded time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT_S = 20.0
"""How long a search may take: a repetition inside a repetition takes longer than any build."""
_REPETITIONS = set("*+?{")
_SEARCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
print(json.dumps([bool(re.search(pattern, name)) for name in names]))
"""


def matching(pattern: str, names: Sequence[str], option: str) -> list[bool]:
    """Tell which names a regular expression is found in.

    The search runs in a process of its own, as nothing else ends one that backtracks for ever.

    Args:
        pattern: The expression.
        names: What is searched.
        option: What the expression is an argument of, for the messages.

    Raises:
        UsageError: If it is no regular expression, or takes longer than ``LIMIT_S``.
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"{option} {pattern!r} is no regular expression: {error}") from error
    if _REPETITIONS.isdisjoint(pattern):  # then nothing backtracks far
        return [bool(compiled.search(name)) for name in names]
    command = [sys.executable, "-I", "-c", _SEARCH]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program
            command,
            input=json.dumps([pattern, list(names)]),
            capture_output=True,
            check=True,
            text=True,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"{option} {pattern!r} was not searched within {LIMIT_S:g} s; write it without a "
            "repetition inside a repetition"
        ) from error
    found: list[bool] = json.loads(done.stdout)
    return found
