"""A package's self-test: its preprocessing and its detections in one fixed frame, reproduced here.

The network's input is compared value by value within one grey level and not by hash alone: OpenCV
promises the bits of its resize, but a vehicle maker's build of it need not keep them. One level is
far below what a wrong mean, a swapped channel or another resize rule does.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.runtime.errors import GateError
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Preprocessor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedetr.runtime.session import Session
    from edgedetr.runtime.spec import ModelSpec
    from edgedetr.runtime.types import Detections

GREY_LEVEL = 1 / 255
"""One step of a pixel, before mean and std."""

LOST_SHARE = 0.2
"""The share of golden detections that need not be found again.

Near ties may fall the other way where arithmetic rounds differently; a wrong computation loses most
detections."""

VIEWS = 4
"""How many views of the golden frame logits are noted of, see `golden_views`."""

_INPUTS = 2
_RANKS = 9  # of the queries, by the logit of a class: the best, the worst, and others between
_LOGIT_LIMIT = 8.0  # logits beyond it are all alike: scores of 0.0003 and less, or 0.9997 and more
_SAMPLES = 256
_ROUNDING = 1e-5
_SPARE = 100  # how many more detections are looked at, because weak ones change places
_STEP = 0x9E3779B1  # 2**32 over the golden ratio: multiples of it spread evenly


@dataclass(frozen=True)
class GoldenInput:
    """What the preprocessing made of `golden_frame` of one size.

    Attributes:
        frame_hw: Height and width of the frame, in pixels.
        sha256: Hash of the network's input, float32 (3, H, W), little-endian.
        values: Some of its values, at `_places`.
    """

    frame_hw: tuple[int, int]
    sha256: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.values) != _SAMPLES:
            raise ValueError(f"a golden input must keep {_SAMPLES} values")


@dataclass(frozen=True)
class GoldenAnswer:
    """The best detections of a model in the golden frame.

    Attributes:
        model: Name of the model's file in the package.
        boxes: Corners (x0, y0, x1, y1) in pixels of the frame.
        scores: Confidence in [0, 1].
        labels: Indices into the class names.
        box_error_px: How far a side of a box may move.
        score_error: How much a score may change.
        logits: Of each view of the frame, logits by rank and class, see `logits_of_views`; none in
            packages from before there were any.
        logit_error: How far they may move, in the mean over all.
    """

    model: str
    boxes: tuple[tuple[float, float, float, float], ...]
    scores: tuple[float, ...]
    labels: tuple[int, ...]
    box_error_px: float
    score_error: float
    logits: tuple[tuple[float, ...], ...] = ()
    logit_error: float = 0.0

    def __post_init__(self) -> None:
        if self.logits and (len(self.logits) != VIEWS or len(set(map(len, self.logits))) != 1):
            raise ValueError(f"the golden answer of {self.model} must hold logits of {VIEWS} views")
        if not 0 < len(self.boxes) == len(self.scores) == len(self.labels):
            raise ValueError(f"the golden answer of {self.model} must hold as many boxes as scores")


@dataclass(frozen=True)
class Golden:
    """What another machine must reproduce.

    Attributes:
        inputs: One for each way in which the preprocessing resizes.
        frame_hw: Height and width of the golden frame in the package.
        answers: One for each ONNX model.
    """

    inputs: tuple[GoldenInput, ...]
    frame_hw: tuple[int, int]
    answers: tuple[GoldenAnswer, ...]

    def __post_init__(self) -> None:
        if len(self.inputs) != _INPUTS or min(self.frame_hw) < 1:
            raise ValueError(f"wanted {_INPUTS} golden inputs and a frame of some size")


def golden_frame(hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Make an image of coloured tiles under noise, by integer arithmetic alone, uint8 (H, W, 3)."""
    y, x = np.arange(hw[0]), np.arange(hw[1])
    tiles = _scrambled((41, 37, 3))[(y // 24 % 41)[:, None], x // 24 % 37]
    noise = _scrambled((97, 101, 3))[(y % 97)[:, None], x % 101]
    return ((tiles * np.uint16(3) + noise) // 4).astype(np.uint8)


def golden_inputs(spec: ModelSpec) -> tuple[GoldenInput, ...]:
    """Preprocess two frames: one is shrunk a little, at once, one much, after it was halved."""
    height, width = spec.input_hw
    little = (height * 7 // 4, width * 3 // 2)
    much = (height * 9 // 4 + 1, width * 11 // 4 + 1)
    made = []
    for hw in (little, much):  # as many as _INPUTS
        values = _network_input(hw, spec)
        samples = tuple(round(float(v), 6) for v in values.reshape(-1)[_places(values.size)])
        made.append(GoldenInput(hw, hashlib.sha256(values.tobytes()).hexdigest(), samples))
    return tuple(made)


def check_inputs(golden: Golden, spec: ModelSpec) -> bool:
    """Preprocess the golden frames on this machine and compare.

    Returns:
        Whether every bit is equal; otherwise every sample lies within one grey level.

    Raises:
        GateError: If this machine preprocesses differently.
    """
    channels = _places(3 * math.prod(spec.input_hw)) // math.prod(spec.input_hw)
    levels_per_unit = np.array(spec.std)[channels] / GREY_LEVEL
    exact = True
    for found, wanted in zip(golden_inputs(spec), golden.inputs, strict=True):
        if found.sha256 == wanted.sha256:
            continue
        exact = False
        error = np.abs(np.subtract(found.values, wanted.values))
        levels = (error - _ROUNDING) * levels_per_unit
        if not (levels <= 1).all():
            raise GateError(
                f"preprocessing on this machine differs from the package by {levels.max():.3g} "
                "grey levels, allowed 1; install the OpenCV and EdgeDETR that its manifest names"
            )
    return exact


def best_detections(session: Session, frame: NDArray[np.uint8], count: int) -> Detections:
    """Run a model on one RGB frame, uint8 (H, W, 3); return its ``count`` best, of any score."""
    spec = replace(session.spec, max_detections=count)
    place = Preprocessor(spec)(frame, session.images[0])
    logits, boxes = session.infer()
    return postprocess(logits[0], boxes[0], place, spec, threshold=0)


def golden_views(frame: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    """Return a frame, its mirror image, at half its brightness, and shifted round by a third.

    Args:
        frame: RGB, uint8 (H, W, 3).
    """
    height, width, _ = frame.shape
    shifted = np.roll(frame, (height // 3, width // 3), (0, 1))
    return frame, np.ascontiguousarray(frame[:, ::-1]), frame // 2, shifted  # as many as VIEWS


def logits_of_views(session: Session, frame: NDArray[np.uint8]) -> tuple[tuple[float, ...], ...]:
    """Run a model on the views of a frame and note some logits of each class, best first.

    They are those at some ranks among the queries. Sorted, they do not depend on the order of
    queries, which rounding changes, and move no farther than logits do.
    """
    preprocess, noted = Preprocessor(session.spec), []
    for view in golden_views(frame):
        preprocess(view, session.images[0])
        logits, _ = session.infer()
        ranked = -np.sort(-np.clip(logits[0], -_LOGIT_LIMIT, _LOGIT_LIMIT), axis=0)
        ranks = np.unique(np.geomspace(1, len(ranked), _RANKS).round().astype(np.int64)) - 1
        noted.append(tuple(round(float(v), 5) for v in ranked[ranks].reshape(-1)))
    return tuple(noted)


def logit_difference(
    wanted: tuple[tuple[float, ...], ...], found: tuple[tuple[float, ...], ...]
) -> float:
    """Return how far logits of views are apart in the mean; infinite where they are not as many."""
    if [*map(len, wanted)] != [*map(len, found)]:
        return math.inf
    return float(np.abs(np.subtract(wanted, found)).mean())


def check_answer(wanted: GoldenAnswer, session: Session, frame: NDArray[np.uint8]) -> None:
    """Run a model on the golden frame: it must answer what it did when it was packaged.

    All but `LOST_SHARE` of its detections must be found again, and the logits of all views must be
    within their tolerance in the mean, which sees what moves every detection a little.

    Raises:
        GateError: If it answers otherwise.
    """
    lost = lost_detections(wanted, session, frame)
    if len(lost) > LOST_SHARE * len(wanted.scores):
        box, score = wanted.boxes[lost[0]], wanted.scores[lost[0]]
        raise GateError(
            f"{wanted.model} does not find {len(lost)} of its {len(wanted.scores)} golden "
            f"detections, the first at {tuple(round(side) for side in box)} of score {score:.3f}, "
            f"within {wanted.box_error_px:g} px and {wanted.score_error:g}, allowed "
            f"{LOST_SHARE:.0%}; the model, the backend or the device does not compute what was "
            "checked when it was packaged"
        )
    _check_logits(wanted, session, frame)


def lost_detections(
    wanted: GoldenAnswer, session: Session, frame: NDArray[np.uint8]
) -> tuple[int, ...]:
    """Return which golden detections a model does not find in the golden frame."""
    found = best_detections(session, frame, _SPARE + len(wanted.scores))
    lost = []
    for index, (box, score, label) in enumerate(
        zip(wanted.boxes, wanted.scores, wanted.labels, strict=True)
    ):
        box_errors = np.abs(found.boxes - np.array(box)).max(axis=1)
        score_errors = np.abs(found.scores - score)
        near = (box_errors <= wanted.box_error_px) & (score_errors <= wanted.score_error)
        if not (near & (found.labels == label)).any():
            lost.append(index)
    return tuple(lost)


def _check_logits(wanted: GoldenAnswer, session: Session, frame: NDArray[np.uint8]) -> None:
    if not wanted.logits:
        return
    moved = logit_difference(wanted.logits, logits_of_views(session, frame))
    if not moved <= wanted.logit_error:
        raise GateError(
            f"{wanted.model} has logits in {VIEWS} views of the golden frame that differ by "
            f"{moved:.3g} in the mean, allowed {wanted.logit_error:g}; the model, the backend or "
            "the device does not compute what was checked when it was packaged"
        )


def _network_input(hw: tuple[int, int], spec: ModelSpec) -> NDArray[np.float32]:
    out = np.empty((3, *spec.input_hw), np.float32)
    Preprocessor(spec)(golden_frame(hw), out)
    return out


def _places(size: int) -> NDArray[np.int64]:
    """Return which of a tensor's values are kept."""
    return (np.arange(_SAMPLES, dtype=np.int64) * _STEP) % (1 << 32) * size >> 32


def _scrambled(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return numbers that look random, the same on every machine."""
    mixed = np.arange(math.prod(shape), dtype=np.uint32) * np.uint32(_STEP)
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return (mixed >> np.uint32(24)).astype(np.uint8).reshape(shape)
