"""How two models' detections are matched, when one is lost, and when the share is decided."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.export.verify.limits import INT8_LIMITS
from edgedetr.export.verify.lost_share import lost_share
from edgedetr.export.verify.matching import MARGIN, Rule, match
from edgedetr.export.verify.runner import open_runner
from edgedetr.runtime.boxes import iou
from edgedetr.runtime.images import read_image
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Preprocessor
from figures.drawing import LINE, WIDTH, Drawing
from figures.scene import CUT

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedetr.export.verify.runner import Runner
    from edgedetr.runtime.types import Detections
    from figures.scene import Scene

RULE = Rule()
FRAME_COUNTS = (10, 20, 40, 80, 160, 320, 640)
"""Numbers of frames for which the bounds are drawn."""
A_FRAME = 4
"""Detections of a frame there."""
LOST = 0.05
"""Share of them that is lost there."""
CHART = 120


def matching(scene: Scene) -> Drawing:
    """Draw both models' detections on a frame, and bounds of the lost share by frames."""
    path, a, b = _example(scene)
    image = read_image(path)
    picture = WIDTH * image.shape[0] / image.shape[1]
    lines = _rows(a, b, scene.teacher.spec.class_names)
    drawing = Drawing(
        "matching",
        "Detections of an FP32 model and of its INT8 model on one frame, with the IoU and the "
        "scores of each pair; below, the bounds of a lost share by the number of frames.",
        4 * LINE + 16 + picture + 12 + LINE * (len(lines) + 1) + 24 + 4 * LINE + CHART + 44,
    )
    drawing.text(0, LINE, "1  Detections of FP32 (orange) and INT8 (blue)", bold=True, size=14)
    drawing.lines(
        0,
        2 * LINE + 1,
        (f"Kept: the other has one of its class with {INT8_LIMITS.describe()}.",
         f"All else is lost. This INT8 is bad: its ranges keep {CUT:g} % of the values."),
    )  # fmt: skip
    top = 3 * LINE + 14.0
    drawing.image(image, 0, top, WIDTH)
    scale = WIDTH / image.shape[1]
    for found, colour, stroke in ((a, "teacher", 3.0), (b, "student", 1.5)):
        boxes = found.boxes[found.scores >= RULE.threshold]
        drawing.boxes(boxes * scale + [0, top, 0, top], colour, stroke=stroke)
    top += picture + 12 + LINE
    for index, row in enumerate([("", "FP32", "INT8", "IoU", ""), *lines]):
        for x, words in zip((0, 130, 200, 270, 340), row, strict=True):
            colour = {"lost": "red", "kept": "green"}.get(words, "ink" if index else "soft")
            drawing.text(x, top + LINE * index, words, colour, size=12)
    _bounds(drawing, top + LINE * (len(lines) + 1) + 8)
    return drawing


def _bounds(drawing: Drawing, top: float) -> None:
    """Draw the bounds of a share of `LOST` by the number of frames."""
    allowed = INT8_LIMITS.lost_share
    drawing.text(0, top + LINE, "2  When the share is decided", bold=True, size=14)
    drawing.lines(
        0,
        top + 2 * LINE + 1,
        (f"{LOST:.0%} lost, {A_FRAME} detections a frame: the bounds close in as frames are added;",
         f"undecided (orange), until the upper is within the {allowed:.0%} (green)."),
    )  # fmt: skip
    top += 3 * LINE + 18
    left, highest = 44, 0.3
    step = (WIDTH - left - 30) / (len(FRAME_COUNTS) - 1)

    def y(share: float) -> float:
        return top + CHART * (1 - min(share, highest) / highest)

    for share in (0, 0.1, 0.2, 0.3):
        drawing.path([(left, y(share)), (WIDTH, y(share))], "line" if share else "soft")
        drawing.text(left - 6, y(share) + 4, f"{share:.0%}", "soft", size=12, anchor="end")
    drawing.path([(left, y(allowed)), (WIDTH, y(allowed))], "red", dashed=True)
    for index, frames in enumerate(FRAME_COUNTS):
        x = left + 14 + index * step
        lost = np.zeros(frames)
        lost[:: round(1 / LOST / A_FRAME)] = 1
        found = lost_share(lost.tolist(), [A_FRAME] * frames)
        colour = {"passed": "green", "failed": "red"}.get(found.verdict(allowed), "orange")
        drawing.rect(x - 5, y(found.high), 10, y(found.low) - y(found.high), colour)
        drawing.text(x, top + CHART + 16, str(frames), "soft", size=12, anchor="middle")
    drawing.text(WIDTH, top + CHART + 32, "frames", "soft", size=12, anchor="end")


def _rows(a: Detections, b: Detections, names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return class, both scores, IoU and verdict of each detection that counts, a pair once."""
    overlap = np.where(a.labels[:, None] == b.labels[None, :], iou(a.boxes, b.boxes), 0)
    rows, taken = [], set()
    for i in np.flatnonzero(a.scores >= RULE.threshold).tolist():
        j = int(overlap[i].argmax())
        pair = match(_only(a, i), _only(b, j), RULE, 1)
        verdict = "lost" if pair.lost(INT8_LIMITS) else "kept"
        other = (f"{b.scores[j]:.2f}", f"{overlap[i, j]:.2f}") if len(pair) else ("none", "")
        rows.append((names[a.labels[i]], f"{a.scores[i]:.2f}", *other, verdict))
        taken.add(j if len(pair) else -1)
    alone = [j for j in np.flatnonzero(b.scores >= RULE.threshold).tolist() if j not in taken]
    return rows + [(names[b.labels[j]], "none", f"{b.scores[j]:.2f}", "", "lost") for j in alone]


def _only(found: Detections, index: int) -> Detections:
    return replace(
        found,
        boxes=found.boxes[[index]],
        scores=found.scores[[index]],
        labels=found.labels[[index]],
    )


def _example(scene: Scene) -> tuple[Path, Detections, Detections]:
    """Return the frame with most of both, kept and lost, and the detections of both models."""
    runners = open_runner(scene.fp32), open_runner(scene.int8)
    found = []
    for path in scene.images:
        a, b = (_detected(runner, path) for runner in runners)
        if not (len(a) and len(b)):
            continue
        pairs = match(a, b, RULE, len(a) + len(b))
        lost = pairs.lost(INT8_LIMITS)
        rows = _rows(a, b, scene.teacher.spec.class_names)
        if sum(row[-1] == "lost" for row in rows) == lost:  # no two of them share a match
            found.append((min(lost, pairs.compared - lost), path, a, b))
    _, path, a, b = max(found, key=lambda one: one[0])
    return path, a, b


def _detected(runner: Runner, path: Path) -> Detections:
    spec = runner.spec
    feed: NDArray[np.float32] = np.empty((1, 3, *spec.input_hw), np.float32)
    place = Preprocessor(spec)(read_image(path), feed[0])
    logits, boxes = runner(feed)
    return postprocess(logits[0], boxes[0], place, spec, RULE.threshold - MARGIN)
