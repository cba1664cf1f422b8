"""Check that a model gives an image the same outputs in any batch, in any row.

TensorRT has built detectors that gave four equal images of a batch four different outputs (TensorRT
issue 4813), so outputs are compared row by row. A batch of equal images shows rows that are
computed differently, a batch of different images shows rows that leak into each other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgedetr.export.verify.figures import counted
from edgedetr.export.verify.limits import FP16_LIMITS, FP32_LIMITS
from edgedetr.export.verify.matching import Rule, match
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Placement, Preprocessor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.export.verify.matching import Pairs
    from edgedetr.export.verify.query_ties import Outputs
    from edgedetr.export.verify.runner import Runner

RULE = Rule(threshold=0.0, top=20)
"""The best detections of a frame, so that a model with low scores is checked as well."""

LOST_OF_ROW = 0.2
"""The share of a row's detections that may be lost where the model is coarser than FP32.

Near ties fall the other way where arithmetic rounds otherwise; a row that is computed wrongly loses
most of them. Each row counts by itself, so that this is no test of a share."""

Test = Literal["equal rows", "different rows", "as alone"]

_FAULTS: dict[Test, str] = {
    "equal rows": "equal images of a batch of {} get different outputs",
    "different rows": "the images of a batch of {} affect each other",
    "as alone": "an image gets other outputs in a batch of {} than in the smallest batch",
}


@dataclass(frozen=True)
class BatchCheck:
    """How the rows of a batch agree with their targets.

    Attributes:
        model: File name of the model.
        size: Images in the batch.
        test: ``equal rows``: one image fills the batch, all rows are compared with the first;
            ``different rows``: each row is compared with a batch full of its image; ``as alone``:
            the first of equal rows is compared with that of the smallest batch.
        unmatched: Detections without a match.
        lost: Detections without a match within the limits of FP32, or of FP16 where the model is
            coarser.
        compared: Detections that were compared.
        max_box_error_px: Largest shift of a side of a box, in pixels of the network's input.
        max_score_error: Largest difference of the scores of a pair.
        non_finite: NaN and infinite numbers in the outputs.
        holds: Whether no detection is lost in FP32, or at most `LOST_OF_ROW` of each row in a
            coarser precision.
    """

    model: str
    size: int
    test: Test
    unmatched: int
    lost: int
    compared: int
    max_box_error_px: float
    max_score_error: float
    non_finite: int
    holds: bool

    @property
    def reason(self) -> str:
        """Return what does not hold; empty where all does."""
        if self.holds:
            return ""
        found = (
            f"{counted(self.non_finite, 'output value')} not finite"
            if self.non_finite
            else f"{self.lost} of {counted(self.compared, 'detection')} lost, {self.unmatched} "
            f"unmatched, boxes up to {self.max_box_error_px:.3g} px and scores up to "
            f"{self.max_score_error:.3g} apart"
        )
        return f"{self.model}: {_FAULTS[self.test].format(self.size)}: {found}"

    @property
    def line(self) -> str:
        """Summarize the check in a line."""
        return (
            f"{self.model}, batch of {self.size}, {self.test}: "
            f"{'passed' if self.holds else 'FAILED'}, {self.unmatched} unmatched, max box error "
            f"{self.max_box_error_px:.3g} px, max score error {self.max_score_error:.3g}"
        )

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return asdict(self)


def check_batches(
    runner: Runner, name: str, frames: Sequence[NDArray[np.uint8]]
) -> tuple[BatchCheck, ...]:
    """Run a model with each of its batch sizes; nothing where it only takes one image.

    Args:
        runner: The model.
        name: What to call it.
        frames: RGB images, uint8 (H, W, 3), at least one; their mirror images are added.
    """
    if runner.batch_sizes == (1,):
        return ()
    images = _images(runner, frames)
    checks = []
    alone = _rows(runner, _batch(images[:1], runner.batch_sizes[0]))[0]
    for size in (s for s in runner.batch_sizes if s > 1):
        full = [
            _rows(runner, _batch(images[i : i + 1], size)) for i in range(min(size, len(images)))
        ]
        mixed = _rows(runner, _batch(images, size))
        targets = [full[i % len(images)][0] for i in range(size)]
        checks.append(_check(runner, name, "equal rows", full[0], [full[0][0]] * size))
        checks.append(_check(runner, name, "different rows", mixed, targets))
        if size != runner.batch_sizes[0]:
            checks.append(_check(runner, name, "as alone", full[0][:1], [alone], size))
    return tuple(checks)


def _images(runner: Runner, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Preprocess the frames, each also mirrored, so that two of them differ."""
    spec = runner.spec
    preprocess = Preprocessor(spec)
    images = np.zeros((2 * len(frames), 3, *spec.input_hw), np.float32)
    for index, frame in enumerate(frames):
        preprocess(frame, images[2 * index])
        images[2 * index + 1] = images[2 * index, :, :, ::-1]
    return images


def _batch(images: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Repeat images until they fill a batch."""
    return np.resize(images, (size, *images.shape[1:]))


def _rows(runner: Runner, images: NDArray[np.float32]) -> list[Outputs]:
    logits, boxes = (output.copy() for output in runner(images))
    return list(zip(logits, boxes, strict=True))


def _check(
    runner: Runner,
    name: str,
    test: Test,
    rows: list[Outputs],
    targets: list[Outputs],
    size: int = 0,
) -> BatchCheck:
    """Match the detections of each row with its targets."""
    arrays = [array for pair in (*rows, *targets) for array in pair]
    non_finite = sum(int((~np.isfinite(a)).sum()) for a in arrays)
    pairs = [] if non_finite else [_match(runner, a, b) for a, b in zip(rows, targets, strict=True)]
    limits = FP32_LIMITS if runner.precision == "fp32" else FP16_LIMITS
    lost, compared = [p.lost(limits) for p in pairs], [p.compared for p in pairs]
    allowed = 0.0 if limits.exact else LOST_OF_ROW
    holds = all(some <= allowed * every for some, every in zip(lost, compared, strict=True))
    return BatchCheck(
        model=name,
        size=size or len(rows),
        test=test,
        unmatched=sum(p.unmatched for p in pairs),
        lost=sum(lost),
        compared=sum(compared),
        max_box_error_px=max((float(p.box_errors_px.max(initial=0)) for p in pairs), default=0.0),
        max_score_error=max((float(p.score_errors.max(initial=0)) for p in pairs), default=0.0),
        non_finite=non_finite,
        holds=not non_finite and holds,
    )


def _match(runner: Runner, a: Outputs, b: Outputs) -> Pairs:
    hw = runner.spec.input_hw
    spec = replace(runner.spec, max_detections=len(a[0]) * len(runner.spec.class_names))
    found = [postprocess(*outputs, Placement(hw, hw, hw), spec, 0.0) for outputs in (a, b)]
    return match(found[0], found[1], RULE, spec.max_detections)
