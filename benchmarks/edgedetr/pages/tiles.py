"""Answer the first questions of a page's reader, each in a tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["", "good", "bad", "undecided"]


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
