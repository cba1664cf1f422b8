"""What one process of a study trains with: it augments frames and trains runs of one pair."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgedetr.bench.study.frames import Frames, unpack
from edgedetr.bench.study.training import (
    CachedMemory,
    Job,
    OutOfTimeError,
    Shelf,
    score,
    trained,
)
from edgedetr.distill.augmentations import Material, augmentations_of
from edgedetr.distill.picture import Picture
from edgedetr.distill.training.augment import augmented
from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.runtime.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgedetr.bench.study.plan import Pair, Run, Try
    from edgedetr.distill.model import Model
    from edgedetr.runtime.spec import ModelSpec

PARTS = 16
"""In how many parts a data set is augmented, side by side."""


@dataclass(frozen=True)
class Study:
    """What all processes of a study share.

    Attributes:
        pairs: By name.
        packs: Files of packed frames by the name of their data.
        root: The project's, where teachers lie.
        work: Folder for augmented frames, empty at first.
        variants: Augmented copies of each training image.
        until: When no run may go on, on `time.monotonic`'s clock, which all processes share.
        device: That runs train on.
        code: Digest of the code that trains; runs of other code are not mixed with these.
    """

    pairs: Mapping[str, Pair]
    packs: Mapping[str, Path]
    root: Path
    work: Path
    variants: int
    until: float
    device: str
    code: str

    @property
    def data(self) -> list[str]:
        """Names of the packed frames that the pairs need."""
        return sorted({pair.data for pair in self.pairs.values()})


@dataclass
class _Bench:
    """A pair's data and teacher, and the teacher's memory once a run needs it."""

    shelf: Shelf
    teacher: Model
    memory: CachedMemory | None = None


class Workshop:
    """Trains runs; keeps the data and the teacher of one pair at a time."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._key: tuple[str, str] | None = None
        self._bench: _Bench
        self._unpacked: tuple[str, ModelSpec, dict[str, Frames]] | None = None

    def augment(self, name: str, part: int) -> None:
        """Write one part of a data set's augmented training images to the working folder.

        Raises:
            OutOfTimeError: If the study's time is over before.
        """
        frames = self._frames(name)[1]["train"]
        first, last = (len(frames) * p // PARTS for p in (part, part + 1))
        variants = self.study.variants
        made = []
        for index in range(first, last):
            if time.monotonic() > self.study.until:
                raise OutOfTimeError
            made.append(_variants_of(frames, index, variants))
        pixels = frames.pixels.new_empty((variants, len(made), *frames.pixels.shape[1:]))
        for index, one in enumerate(made):
            pixels[:, index] = torch.stack([p for p, _ in one])
        targets = [[one[v][1] for one in made] for v in range(variants)]
        with atomic_path(self._augmented(name, part)) as temporary:
            torch.save((pixels, targets), temporary)

    def train(self, run: Run, chosen: Try) -> dict[str, Any]:
        """Train and score one run, or score a pair's teacher; return its record."""
        pair, begun = self.study.pairs[run.pair], time.perf_counter()
        bench = self._bench_of(pair)
        if run.kind == "teacher":
            scores = score(bench.teacher, bench.shelf.test, bench.shelf.pixels.device)
            found = {**scores, "steps": 0, "seconds": time.perf_counter() - begun}
        else:
            needs = pair.arms[run.arm].methods != ("none",)
            if needs and bench.memory is None:
                bench.memory = CachedMemory(bench.teacher, bench.shelf)
            memory, until = bench.memory if needs else None, self.study.until
            found = trained(Job(run, pair, chosen, bench.shelf, bench.teacher, memory, until))
        return {
            "pair": run.pair,
            "arm": run.arm,
            "kind": run.kind,
            "number": run.number,
            "code": self.study.code,
            "device": self.study.device,
            **found,
        }

    def _bench_of(self, pair: Pair) -> _Bench:
        """Return a pair's data and teacher, made when first needed."""
        if self._key != (pair.data, pair.teacher):
            study, device = self.study, torch.device(self.study.device)
            spec, frames = self._frames(pair.data)
            parts = [
                torch.load(self._augmented(pair.data, part), weights_only=False)
                for part in range(PARTS)
            ]
            targets = [[t for _, rows in parts for t in rows[v]] for v in range(study.variants)]
            shelf = Shelf(
                torch.cat([pixels for pixels, _ in parts], 1).to(device),
                [[t.to(device) for t in row] for row in targets],
                spec,
                frames["tune"],
                frames["test"],
            )
            teacher = load_model(study.root / pair.teacher)
            teacher.network.to(device).eval().requires_grad_(requires_grad=False)
            self._key, self._bench = (pair.data, pair.teacher), _Bench(shelf, teacher)
        return self._bench

    def _frames(self, name: str) -> tuple[ModelSpec, dict[str, Frames]]:
        """Return a data set's packed frames; those of the last data set are kept."""
        if self._unpacked is None or self._unpacked[0] != name:
            self._unpacked = name, *unpack(self.study.packs[name])
        return self._unpacked[1:]

    def _augmented(self, name: str, part: int) -> Path:
        return self.study.work / f"{name}.{part}.pt"


def _variants_of(frames: Frames, index: int, count: int) -> list[tuple[Any, Any]]:
    pixels, targets = frames.pixels[index], frames.targets[index]
    seeds = np.random.SeedSequence([7, index]).generate_state(count)
    frame, names = Picture(pixels, targets), augmentations_of("strong")
    alone = Material(lambda _: frame, pad_value=0)  # what makes up "strong" draws no other frame
    made = [augmented(frame, names, int(seed), alone) for seed in seeds]
    return [(picture.pixels, picture.targets) for picture in made]
