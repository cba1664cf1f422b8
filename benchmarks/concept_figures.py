"""Draw the figures of ``docs/concepts.md`` into ``docs/figures``.

    python benchmarks/concept_figures.py

They show what the project's own code computes on frames that it renders. Rounding differs from
machine to machine: `tests/project/test_concepts.py` checks that they are still what is drawn.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from edgedetr.runtime.files import write_text
from figures.frames import frames
from figures.inheriting import inheriting
from figures.int8 import int8
from figures.matching import matching
from figures.memory import memory
from figures.path import path
from figures.points import points
from figures.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures.drawing import Drawing

FIGURES = Path(__file__).parents[1] / "docs/figures"


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=FIGURES, help="Folder.")
def main(out: Path) -> None:
    """Draw all of them."""
    with TemporaryDirectory() as folder:
        for drawing in drawings(Path(folder)):
            write_text(out / f"{drawing.name}.svg", drawing.svg())
            click.echo(f"{out / drawing.name}.svg")


def drawings(folder: Path) -> Iterator[Drawing]:
    """Draw them one after another.

    Args:
        folder: Where the models are exported to.
    """
    scene = Scene(folder)
    yield path()
    for draw in (points, memory, inheriting, int8, matching):
        yield draw(scene)
    yield frames()


if __name__ == "__main__":
    main()
