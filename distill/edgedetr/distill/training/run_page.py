"""``index.html`` of a run's folder: curves while it trains, and the worst frames of an evaluation.

The page holds all it shows and runs no script. While the run lasts it asks the browser to load it
anew every few seconds. It is written so seldom that it takes at most a hundredth of the time.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgedetr.distill.training.run_curves import Curve
from edgedetr.distill.training.run_facts import RunFacts, note_facts, now
from edgedetr.pages.charts import LARGE, SMALL, Series, line_chart
from edgedetr.pages.rendering import Tile, rendered
from edgedetr.runtime.files import write_text
from edgedetr.runtime.printable import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgedetr.pages.charts import LineChart
    from edgedetr.pages.pictures import Picture

    State = Literal["training", "stopped", "finished"]

TEMPLATE = Path(__file__).with_name("run_page.html.jinja")
PAGE = "index.html"
LEAST_SECONDS = 5.0
"""Between two writes of the page, and between two loads of it in a browser."""
SHARE = 0.005
"""Of the time, that is spent on writing the page."""
_FIGURES = ("loss", "lr", "seconds", "unlabelled")
"""What a step logs beside the terms of its loss."""


class RunPage:
    """Writes the page of one run.

    Args:
        out: The run's folder.
        config: The run's settings, as `DistillConfig.record` gives them.
        command: The command that started it.
        steps: Steps of the whole run.
    """

    def __init__(self, out: Path, config: Mapping[str, Any], command: str, steps: int) -> None:
        self._out = out
        self._facts = RunFacts(config, command, steps, now())
        self._curves: dict[str, Curve] = {}
        self._evaluations: list[tuple[int, Mapping[str, Any]]] = []
        self._pictures: Sequence[Picture] = ()
        self._done = self._begun_at = 0
        self._begun = time.perf_counter()
        self._due = self._begun

    def start(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Note what the run is, and take what its log has already."""
        facts = self._facts
        self._facts = note_facts(self._out, facts.config, facts.command, facts.steps)
        for record in records:
            step, kind = record.get("step"), record.get("kind")
            if not isinstance(step, int):
                continue
            figures = {k: v for k, v in record.items() if k not in ("kind", "step", "epoch")}
            if kind == "step":
                self._take(step, figures)
            elif kind == "evaluation":
                self._evaluations.append((step, figures))
        self._begun_at, self._begun = self._done, time.perf_counter()
        self._write("training")

    def step(self, step: int, epoch: int, terms: Mapping[str, float]) -> None:  # noqa: ARG002 - a watcher's
        """Take a step; write the page if it is due."""
        self._take(step, terms)
        if time.perf_counter() >= self._due:
            self._write("training")

    def evaluation(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None:  # noqa: ARG002 - a watcher's
        """Take an evaluation; write the page."""
        self._evaluations.append((step, metrics))
        self._write("training")

    def show(self, pictures: Sequence[Picture]) -> None:
        """Take the worst frames of an evaluation, which the next write shows."""
        self._pictures = pictures

    def close(self) -> None:
        """Write the page of a run that stops."""
        self._write("stopped")

    def finish(self) -> None:
        """Write the page of a run that came to its end."""
        self._write("finished")

    def _take(self, step: int, figures: Mapping[str, Any]) -> None:
        self._done = step + 1
        for name, value in figures.items():
            if value is not None and math.isfinite(value):
                self._curves.setdefault(name, Curve()).add(step, float(value))

    def _write(self, state: State) -> None:
        begun = time.perf_counter()
        write_text(self._out / PAGE, self._rendered(state))
        ended = time.perf_counter()
        self._due = ended + max(LEAST_SECONDS, (ended - begun) / SHARE)

    def _rendered(self, state: State) -> str:
        facts = self._facts
        terms = [name for name in self._curves if name not in _FIGURES]
        return rendered(
            TEMPLATE,
            name=self._out.resolve().name,
            state=state,
            refresh=max(1, round(LEAST_SECONDS)) if state == "training" else 0,
            written=_shown(now()),
            facts=facts,
            data=facts.config.get("data", {}).get("root", ""),
            tiles=self._tiles(state),
            large=[self._accuracy(), self._chart("loss", "Loss", LARGE)],
            small=[
                *(self._chart(name, name, SMALL) for name in terms),
                self._chart("lr", "Learning rate", SMALL),
                self._chart("seconds", "Seconds a step, without loading", SMALL),
            ],
            pictures=self._pictures,
            evaluated=self._evaluations[-1][0] if self._evaluations else 0,
        )

    def _tiles(self, state: State) -> list[Tile]:
        total = max(self._facts.steps, 1)
        share = f"{100 * self._done / total:.0f} % of {total}"
        if state == "training":
            share += self._left()
        aps = [m["ap"] for _, m in self._evaluations if m.get("ap") is not None]
        aps = [ap for ap in aps if math.isfinite(ap)]
        best = f"best {100 * max(aps):.1f} %" if aps else "no evaluation yet"
        loss = self._curves["loss"].last if "loss" in self._curves else math.nan
        return [
            Tile("State", state, f"began {_shown(self._facts.started)}",
                 "good" if state == "finished" else ""),
            Tile("Steps", f"{self._done}", share),
            Tile("AP", f"{100 * aps[-1]:.1f} %" if aps else "\N{EN DASH}", best),
            Tile("Loss", f"{loss:.3g}" if math.isfinite(loss) else "\N{EN DASH}",
                 counted(len(self._evaluations), "evaluation")),
        ]  # fmt: skip

    def _left(self) -> str:
        """Return how long the rest takes at the pace so far."""
        taken = self._done - self._begun_at
        if not taken:
            return ""
        seconds = (time.perf_counter() - self._begun) / taken * (self._facts.steps - self._done)
        hours, minutes = divmod(math.ceil(seconds / 60), 60)
        return f", {hours} h {minutes:02d} min left"

    def _accuracy(self) -> LineChart:
        lines: dict[str, list[tuple[int, float]]] = {"ap": [], "ap50": []}
        for step, metrics in self._evaluations:
            for name, points in lines.items():
                value = metrics.get(name)
                if value is not None:
                    points.append((step, 100 * value))
        series = [_series(name, f"c{i}", points) for i, (name, points) in enumerate(lines.items())]
        return line_chart("AP on the validation split", series, ("step", "%"), size=LARGE)

    def _chart(self, name: str, title: str, size: tuple[int, int]) -> LineChart:
        x, y = self._curves[name].points() if name in self._curves else Curve().points()
        return line_chart(title, [Series(name, "c1", x, y)], ("step", name), size=size)


def _shown(moment: str) -> str:
    """Return a moment in UTC for a reader.

    >>> _shown("2026-01-02T03:04:05+00:00")
    '2026-01-02 03:04:05 UTC'
    """
    return f"{moment[:19].replace('T', ' ')} UTC"


def _series(name: str, style: str, points: Sequence[tuple[int, float]]) -> Series:
    curve = Curve()
    for step, value in points:
        curve.add(step, value)
    return Series(name, style, *curve.points())
