"""Tracks of whole sequences against KITTI's labels: HOTA, MOTA and IDF1 by class."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from edgedetr.distill.evaluation.kitti_tracks import CLASSES, counted_frames
from edgedetr.distill.evaluation.track_metrics import ALPHAS, clear, hota, identity
from edgedetr.distill.labels.kitti_tracks import read_tracks
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import files_with, in_any_case, without_nan

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from edgedetr.distill.evaluation.track_metrics import TrackedFrame
    from edgedetr.distill.labels.kitti_tracks import TrackTable

LINES = "frames.jsonl"
"""What ``edgedetr run`` writes into the folder of a sequence."""


@dataclass(frozen=True)
class ClassTracks:
    """How well the tracks of one class follow its objects; shares in [0, 1].

    Every share is NaN where no object counts.

    Attributes:
        hota: Mean over the overlaps 0.05, 0.1, ..., 0.95 of sqrt(DetA * AssA).
        det_a: Mean of DetA, hits over hits, misses and alarms.
        ass_a: Mean of AssA, how well the hits of an object and of its track agree.
        mota: 1 - (misses + alarms + switches) / objects; below 0 where there are more of them.
        motp: Mean overlap of the hits.
        idf1: Harmonic mean of the shares of boxes and of objects under one identity.
        hits: At an overlap of 0.5.
        misses: At an overlap of 0.5.
        alarms: At an overlap of 0.5.
        switches: How often an object came to another track.
    """

    hota: float
    det_a: float
    ass_a: float
    mota: float
    motp: float
    idf1: float
    hits: int
    misses: int
    alarms: int
    switches: int


@dataclass(frozen=True)
class TrackScores:
    """What the evaluation gives.

    Attributes:
        classes: Figures by class.
        sequences: Names of the sequences, in their order.
        notes: What was left out, one line each.
    """

    classes: dict[str, ClassTracks]
    sequences: tuple[str, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as it is written to JSON."""
        return {
            "classes": {name: without_nan(asdict(part)) for name, part in self.classes.items()},
            "sequences": list(self.sequences),
            "notes": list(self.notes),
        }


def evaluate_tracks(labels: str | os.PathLike[str], tracks: str | os.PathLike[str]) -> TrackScores:
    """Compare a folder of tracks with a folder of KITTI's tracking labels (``label_02``).

    The sequences are those that have tracks: ``0000.txt`` in KITTI's format, or
    ``0000/frames.jsonl`` as ``edgedetr run --tracker --out`` writes it.

    Raises:
        DataError: If a folder is missing or holds no sequence, a sequence has no labels, a line is
            malformed, or no track has a class that is scored.
    """
    labels, tracks = Path(labels), Path(tracks)
    paths = _sequences(tracks)
    pairs: list[tuple[TrackTable, TrackTable]] = []
    for name, path in tqdm(paths.items(), "sequences", disable=None, leave=False):
        truth = in_any_case(labels / f"{name}.txt")
        if not truth.is_file():
            raise DataError(f"{path}: no labels of this sequence; wanted {truth}")
        pairs.append((read_tracks(truth), read_tracks(path)))
    kinds = Counter(kind for _, found in pairs for kind in found.types.tolist())
    scored = {name.lower() for name in CLASSES}
    others = {kind: n for kind, n in kinds.items() if kind.lower() not in scored}
    if kinds and len(others) == len(kinds):
        raise DataError(
            f"{tracks}: no track has a class that is scored ({', '.join(CLASSES)}); found "
            f"{', '.join(sorted(others))}"
        )
    notes = [f"boxes of classes that are not scored: {n} {kind}" for kind, n in others.items()]
    left_out = {path.stem for path in files_with(labels, ".txt")} - paths.keys()
    if left_out:
        notes.append(f"sequences without tracks, left out: {len(left_out)}")
    classes = {
        name: class_tracks([counted_frames(*pair, name) for pair in pairs]) for name in CLASSES
    }
    return TrackScores(classes, tuple(paths), tuple(notes))


def class_tracks(sequences: Sequence[Sequence[TrackedFrame]]) -> ClassTracks:
    """Add the counts of the sequences of one class, and take the shares of the sums."""
    by_alpha = [hota(frames) for frames in sequences]
    hits, misses, alarms, association = (
        np.sum([getattr(part, field) for part in by_alpha], axis=0)
        for field in ("hits", "misses", "alarms", "association")
    )
    objects = float(hits[0] + misses[0])
    det_a = hits / np.maximum(1, objects + alarms)
    ass_a = association / np.maximum(1, hits)
    single = [clear(frames) for frames in sequences]
    found, missed, wrong, switches = (
        sum(getattr(part, field) for part in single)
        for field in ("hits", "misses", "alarms", "switches")
    )
    same = [identity(frames) for frames in sequences]
    id_hits = sum(part.hits for part in same)
    id_errors = sum(part.misses + part.alarms for part in same)
    if not objects:
        nan = math.nan
        return ClassTracks(nan, nan, nan, nan, nan, nan, found, missed, wrong, switches)
    return ClassTracks(
        hota=float(np.sqrt(det_a * ass_a).sum() / len(ALPHAS)),
        det_a=float(det_a.mean()),
        ass_a=float(ass_a.mean()),
        mota=(found - wrong - switches) / objects,
        motp=sum(part.overlap for part in single) / max(1, found),
        idf1=id_hits / max(1.0, id_hits + id_errors / 2),
        hits=found,
        misses=missed,
        alarms=wrong,
        switches=switches,
    )


def _sequences(tracks: Path) -> dict[str, Path]:
    """Return the file of each sequence by its name, in their order."""
    if not tracks.is_dir():
        raise DataError(f"{tracks}: no such folder; wanted tracks as 0000.txt or 0000/{LINES}")
    found = {path.stem: path for path in files_with(tracks, ".txt")}
    for path in tracks.glob(f"*/{LINES}"):
        if path.parent.name in found:
            raise DataError(f"{path}: the sequence has another file, {found[path.parent.name]}")
        found[path.parent.name] = path
    if not found:
        raise DataError(f"{tracks}: no sequence; wanted tracks as 0000.txt or 0000/{LINES}")
    return dict(sorted(found.items()))
