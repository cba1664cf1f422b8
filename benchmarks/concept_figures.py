"""Draw the figures of ``docs/concepts.md`` into ``docs/figures``, and the README's picture.

    python benchmarks/concept_figures.py

They show what the project's own code computes on frames that it renders. Rounding differs from
machine to machine: `tests/project/test_concepts.py` checks that they are still what is drawn.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click
import cv2

from edgedetr.runtime.files import atomic_path, write_text
from figures.frames import frames
from figures.inheriting import inheriting
from figures.int8 import int8
from figures.matching import matching
from figures.memory import memory
from figures.path import path
from figures.points import points
from figures.result import result
from figures.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures.drawing import Drawing

DOCS = Path(__file__).parents[1] / "docs"


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=DOCS / "figures", help="Folder.")
@click.option(
    "--picture", type=click.Path(path_type=Path), default=DOCS / "result.jpg", help="README's."
)
def main(out: Path, picture: Path) -> None:
    """Draw all of them."""
    with TemporaryDirectory() as folder:
        scene = Scene(Path(folder))
        for drawing in drawings(scene):
            write_text(out / f"{drawing.name}.svg", drawing.svg())
            click.echo(f"{out / drawing.name}.svg")
        _, data = cv2.imencode(".jpg", cv2.cvtColor(result(scene), cv2.COLOR_RGB2BGR))
        with atomic_path(picture) as unfinished:
            unfinished.write_bytes(data.tobytes())
        click.echo(f"{picture}")


def drawings(scene: Scene) -> Iterator[Drawing]:
    """Draw them one after another.

    Args:
        scene: What they show.
    """
    yield path()
    for draw in (points, memory, inheriting, int8, matching):
        yield draw(scene)
    yield frames()


if __name__ == "__main__":
    main()
