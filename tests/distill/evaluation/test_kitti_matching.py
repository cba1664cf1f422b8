"""The vectorised matching against the development kit's rules written as plain loops."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
import pytest

from edgedetr.distill.evaluation import kitti_matching
from edgedetr.distill.evaluation.kitti import CLASSES, kitti_ap
from edgedetr.distill.evaluation.kitti_matching import overlapping_pairs, score_thresholds
from edgedetr.distill.evaluation.kitti_tables import DetectionTable, LabelTable

Box = tuple[float, float, float, float]
LIMITS = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
NEIGHBOUR = {"car": "van", "pedestrian": "person_sitting"}
LEVELS = ((40, 0, 0.15), (25, 1, 0.3), (25, 2, 0.5))


@dataclass
class Label:
    type: str
    box: Box
    truncated: float = 0.0
    occluded: int = 0


@dataclass
class Found:
    type: str
    box: Box
    score: float


@dataclass
class Game:
    hits: list[float]
    misses: int
    alarms: int


Frame = tuple[list[Label], list[Found]]


def test_score_thresholds_of_80_hits_out_of_80() -> None:
    # Recalls 1/80, 2/80, ... against targets 0, 2/80, 4/80, ...: the first hit is nearest to
    # 0, then every second one hits its target exactly.
    chosen = score_thresholds(np.arange(80, 0, -1.0), 80)
    assert chosen.tolist() == [80, *range(79, 0, -2)]


def test_score_thresholds_end_with_the_last_hit() -> None:
    # 3 hits of 200: recall 0.005 for target 0; 0.015 is nearer to 0.025 than 0.01, and the last.
    assert score_thresholds(np.array([0.7, 0.9, 0.8]), 200).tolist() == [0.9, 0.7]


def test_score_thresholds_equal_the_plain_loop_to_the_last_bit() -> None:
    # With these numbers recall and target often tie up to the rounding of the sum of 1/40.
    for wanted in range(1, 330):
        for missed in (0, 1, wanted // 3):
            falling = [float(i) for i in range(wanted - missed, 0, -1)]
            chosen = score_thresholds(np.array(falling), wanted)
            assert chosen.tolist() == _thresholds(falling, wanted)
            assert len(chosen) <= 41


def test_pairs_are_of_one_frame_and_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    box = np.array([[0.0, 0.0, 10.0, 10.0]])
    # Frame 0: 2 detections and 1 label; frame 2: 1 and 2; frame 3: a label only.
    frames, label_frames = np.array([2, 0, 0]), np.array([0, 2, 2, 3])
    for portion in (1, 100):
        monkeypatch.setattr(kitti_matching, "PAIRS_AT_ONCE", portion)
        pairs = overlapping_pairs(
            (frames, box.repeat(3, 0)), (label_frames, box.repeat(4, 0)), 0.5, over_union=True
        )
        assert pairs.detection.tolist() == [0, 0, 1, 2]
        assert pairs.label.tolist() == [1, 2, 0, 0]


def random_box(rng: random.Random) -> Box:
    """A box on a coarse grid, so that equal overlaps, exact limits and touching edges happen."""
    x, y = rng.choice([0, 0, 5, 10, 40]), rng.choice([0, 0, 5, 30])
    width, height = rng.choice([30, 40]), rng.choice([24, 25, 36, 39, 39.9, 40, 45, 50])
    return float(x), float(y), float(x + width), float(y + height)


def random_frame(rng: random.Random) -> Frame:
    types = ["Car", "Car", "Van", "Pedestrian", "Person_sitting", "Cyclist", "DontCare", "Tram"]
    labels = [
        Label(
            type=rng.choice(types),
            box=random_box(rng),
            truncated=rng.choice([0, 0, 0, 0.15, 0.3, 0.4, 0.9]),
            occluded=rng.choice([0, 0, 0, 0, 1, 2, 3]),
        )
        for _ in range(rng.randrange(7))
    ]
    found = []
    for _ in range(rng.randrange(12)):
        source = rng.choice(labels) if labels and rng.random() < 0.6 else None
        box = source.box if source else random_box(rng)
        if rng.random() < 0.5:
            box = (box[0], box[1], box[2] + rng.choice([-5, 5]), box[3] + rng.choice([-2, 1]))
        type_ = rng.choice([source.type if source else "Car", "Car", "Pedestrian", "Cyclist"])
        found.append(Found(type_, box, rng.choice([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, rng.random()])))
    return labels, found


@pytest.mark.parametrize("seed", range(60))
def test_equal_to_the_plain_loops(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kitti_matching, "PAIRS_AT_ONCE", 40)
    rng = random.Random(seed)  # noqa: S311
    frames = [random_frame(rng) for _ in range(rng.choice([1, 3, 10, 40]))]
    scores = kitti_ap(*tables(frames), len(frames))
    for c, name in enumerate(CLASSES):
        for level in range(3):
            eleven, _, counts = reference_curve(frames, name, level, keep_equal=True)
            ap11 = 100 * sum(eleven[::4]) / 11 if counts else math.nan
            forty, recall, counts = reference_curve(frames, name, level, keep_equal=False)
            ap40 = 100 * sum(forty[1:]) / 40 if counts else math.nan
            assert scores.precision[c, level] == pytest.approx(forty, abs=1e-12)
            assert scores.recall[c, level] == pytest.approx(recall, abs=1e-12)
            assert scores.ap11[c, level] == pytest.approx(ap11, nan_ok=True)
            assert scores.ap40[c, level] == pytest.approx(ap40, nan_ok=True)


def tables(frames: list[Frame]) -> tuple[LabelTable, DetectionTable]:
    labels = [(i, x) for i, (present, _) in enumerate(frames) for x in present]
    found = [(i, x) for i, (_, dets) in enumerate(frames) for x in dets]
    return (
        LabelTable(
            frames=np.array([i for i, _ in labels], np.int64),
            types=np.array([x.type for _, x in labels], dtype=str),
            boxes=np.array([x.box for _, x in labels], np.float64).reshape(-1, 4),
            truncated=np.array([x.truncated for _, x in labels], np.float64),
            occluded=np.array([x.occluded for _, x in labels], np.int64),
        ),
        DetectionTable(
            frames=np.array([i for i, _ in found], np.int64),
            types=np.array([x.type for _, x in found], dtype=str),
            boxes=np.array([x.box for _, x in found], np.float64).reshape(-1, 4),
            scores=np.array([x.score for _, x in found], np.float64),
        ),
    )


def reference_curve(
    frames: list[Frame], name: str, level: int, *, keep_equal: bool
) -> tuple[list[float], list[float], int]:
    """Precision, recall, how many labels count; ``keep_equal``: those as high as the limit do."""
    roles = [_roles(frame, name, level, keep_equal=keep_equal) for frame in frames]
    wanted = sum(role == "wanted" for labels, _ in roles for role in labels)
    hits = []
    for frame, role in zip(frames, roles, strict=True):
        hits += _play(frame, role, name, None).hits
    precision, recall = [0.0] * 41, [0.0] * 41
    for i, threshold in enumerate(_thresholds(sorted(hits, reverse=True), wanted)):
        games = [
            _play(frame, role, name, threshold) for frame, role in zip(frames, roles, strict=True)
        ]
        hit, missed, false = (
            sum(values)
            for values in zip(*((len(g.hits), g.misses, g.alarms) for g in games), strict=True)
        )
        precision[i] = hit / (hit + false) if hit + false else 0.0
        recall[i] = hit / (hit + missed) if hit + missed else 0.0
    return [max(precision[i:]) for i in range(41)], recall, wanted


def _roles(frame: Frame, name: str, level: int, *, keep_equal: bool) -> tuple[list[str], list[str]]:
    min_height, max_occlusion, max_truncation = LEVELS[level]
    labels, found = [], []
    for label in frame[0]:
        height = label.box[3] - label.box[1]
        low = height < min_height or (height == min_height and not keep_equal)
        hard = label.occluded > max_occlusion or label.truncated > max_truncation
        if label.type.lower() == name.lower():
            labels.append("neutral" if low or hard else "wanted")
        elif label.type.lower() == NEIGHBOUR.get(name.lower()):
            labels.append("neutral")
        else:
            labels.append("other")
    for det in frame[1]:
        if int(abs(det.box[1] - det.box[3])) < min_height:
            found.append("small")
        else:
            found.append("valid" if det.type.lower() == name.lower() else "other")
    return labels, found


def _play(
    frame: Frame, roles: tuple[list[str], list[str]], name: str, threshold: float | None
) -> Game:
    """One frame at one threshold."""
    taken: set[int] = set()
    hits, misses = [], 0
    rivals = [
        j
        for j, det in enumerate(frame[1])
        if roles[1][j] != "other" and (threshold is None or det.score >= threshold)
    ]
    for label, role in zip(frame[0], roles[0], strict=True):
        if role == "other":
            continue
        near = [
            j
            for j in rivals
            if j not in taken and _shared(frame[1][j].box, label.box, "union") > LIMITS[name]
        ]
        if not near:
            misses += role == "wanted"
            continue
        j = _choose(near, frame[1], roles[1], label, threshold)
        taken.add(j)
        if role == "wanted" and roles[1][j] == "valid":
            hits.append(frame[1][j].score)
    areas = [label.box for label in frame[0] if label.type.lower() == "dontcare"]
    alarms = [
        j
        for j in rivals
        if j not in taken
        and roles[1][j] == "valid"
        and not any(_shared(frame[1][j].box, a, "first") > LIMITS[name] for a in areas)
    ]
    return Game(hits, misses, len(alarms))


def _choose(
    near: list[int], found: list[Found], roles: list[str], label: Label, threshold: float | None
) -> int:
    if threshold is None:
        return max(near, key=lambda j: (found[j].score, -j))
    valid = [j for j in near if roles[j] == "valid"]
    if not valid:
        return near[0]
    return max(valid, key=lambda j: (_shared(found[j].box, label.box, "union"), -j))


def _shared(a: Box, b: Box, over: str) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    area_a, area_b = ((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
    return shared / (area_a if over == "first" else area_a + area_b - shared)


def _thresholds(falling: list[float], wanted: int) -> list[float]:
    chosen, target = [], 0.0
    for i, score in enumerate(falling):
        last = i == len(falling) - 1
        here, after = (i + 1) / wanted, (i + 2) / wanted
        if not last and after - target < target - here:
            continue
        chosen.append(score)
        target += 1 / 40
    return chosen
