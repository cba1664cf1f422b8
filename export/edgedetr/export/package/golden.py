"""What the models of a package answer to its golden frame, for the self-test in the vehicle."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgedetr.runtime.backends.onnxruntime import open_session
from edgedetr.runtime.errors import GateError
from edgedetr.runtime.self_test import (
    Golden,
    GoldenAnswer,
    best_detections,
    golden_inputs,
    logit_difference,
    logits_of_views,
    lost_detections,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.export.package.candidate import Candidate
    from edgedetr.runtime.package.format import Precision
    from edgedetr.runtime.types import Detections

GOLDEN_DETECTIONS = 20
"""Detections of the golden frame that are stored at most."""
GOLDEN_TOLERANCES: dict[Precision, tuple[float, float]] = {
    "fp32": (0.5, 1e-3),
    "fp16": (2.0, 5e-3),
    "int8": (8.0, 0.05),
}
"""How far a side of a box may move elsewhere, in pixels, and how much a score may change."""
GOLDEN_SCORE = 0.1
"""Lowest score of each."""
LOGIT_TOLERANCES: dict[Precision, float] = {"fp32": 0.02, "fp16": 0.03, "int8": 0.05}
"""How far logits may move elsewhere in the mean, at least; see `LOGIT_TIMES`."""
LOGIT_TIMES = 2.0
"""How many times as far they may move as ONNX Runtime's ordinary kernels move them here."""


def golden_answers(models: Sequence[Candidate], frame: NDArray[np.uint8]) -> Golden:
    """Note what models answer to a frame, RGB, uint8 (H, W, 3).

    Raises:
        GateError: If a model finds nothing by which its self-test could fail.
    """
    height, width, _ = frame.shape
    return Golden(
        inputs=golden_inputs(models[0].spec),
        frame_hw=(height, width),
        answers=tuple(answer_of(model, frame) for model in models),
    )


def answer_of(model: Candidate, frame: NDArray[np.uint8]) -> GoldenAnswer:
    """Note what a model finds, computed as it is written and on one thread: always the same.

    Detections that ONNX Runtime's ordinary kernels do not find again are not held against others.

    Raises:
        GateError: If it finds nothing by which its self-test could fail.
    """
    session = open_session(model.path, model.spec, threads=1, exact=True)
    found = best_detections(session, frame, GOLDEN_DETECTIONS)
    logits = logits_of_views(session, frame)
    session.close()
    sure = [i for i, score in enumerate(found.scores) if score >= GOLDEN_SCORE]
    answer = _answer(model, found, sure) if sure else None
    session = open_session(model.path, model.spec)
    lost = lost_detections(answer, session, frame) if answer else ()
    moved = logit_difference(logits, logits_of_views(session, frame))
    session.close()
    kept = [index for i, index in enumerate(sure) if i not in lost]
    if not kept:
        raise GateError(
            f"{model.path} has no stable detection of score {GOLDEN_SCORE:g} or more in the "
            "golden frame, so its self-test could not fail; give a frame with objects: "
            "--golden-frame IMAGE"
        )
    allowed = max(LOGIT_TOLERANCES[model.precision], LOGIT_TIMES * moved)
    answer = _answer(model, found, kept)
    return replace(answer, logits=logits, logit_error=round(allowed, 6))


def _answer(model: Candidate, found: Detections, kept: Sequence[int]) -> GoldenAnswer:
    box_error_px, score_error = GOLDEN_TOLERANCES[model.precision]
    boxes = [[round(float(side), 3) for side in found.boxes[i]] for i in kept]
    return GoldenAnswer(
        model=f"models/{model.path.name}",
        boxes=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in boxes),
        scores=tuple(round(float(found.scores[i]), 6) for i in kept),
        labels=tuple(int(found.labels[i]) for i in kept),
        box_error_px=box_error_px,
        score_error=score_error,
    )
