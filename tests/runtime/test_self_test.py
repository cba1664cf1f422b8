import hashlib
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edgedetr.runtime import preprocess
from edgedetr.runtime import self_test as module
from edgedetr.runtime.errors import GateError
from edgedetr.runtime.preprocess import Placement, ResizeStep, placement
from edgedetr.runtime.self_test import (
    Golden,
    GoldenAnswer,
    best_detections,
    check_answer,
    check_inputs,
    golden_frame,
    golden_inputs,
    golden_views,
    logits_of_views,
    lost_detections,
)
from edgedetr.runtime.spec import ModelSpec

SPECS = {
    "stretch": ModelSpec((96, 320), ("Car",), resize="stretch"),
    "letterbox": ModelSpec(
        (64, 64), ("Car",), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    ),
    "odd": ModelSpec((33, 95), ("Car",), pad_value=0),
}
ANSWER = GoldenAnswer("models/m.onnx", ((2, 2, 6, 6),), (0.5,), (0,), 0.5, 1e-3)


@pytest.fixture(params=SPECS)
def spec(request):
    return SPECS[request.param]


@pytest.fixture
def golden(spec):
    return Golden(golden_inputs(spec), (8, 8), (ANSWER,))


def test_the_frame_is_the_same_everywhere():
    frame = golden_frame((50, 70))
    assert frame.dtype == np.uint8
    assert frame.shape == (50, 70, 3)
    assert hashlib.sha256(frame.tobytes()).hexdigest()[:16] == "e33f765a4475c120"
    assert frame.std() > 40
    neighbours = np.abs(np.diff(frame[:20, :20].astype(int), axis=1))
    assert neighbours.mean() > 10  # fine enough to tell ways of resizing apart


def test_one_frame_is_resized_at_once_and_one_is_halved_first(spec):
    inputs = golden_inputs(spec)
    assert [len(placement(i.frame_hw, spec).resize_steps()) for i in inputs] == [1, 2]


def test_the_same_preprocessing_is_equal_to_the_bit(golden, spec):
    assert check_inputs(golden, spec) is True


def test_a_grey_level_is_allowed_and_two_are_not(golden, spec, monkeypatch):
    exact = module._network_input
    unit = np.array(spec.std, np.float32)[:, None, None] * 255
    monkeypatch.setattr(module, "_network_input", lambda *a: exact(*a) + 0.99 / unit)
    assert check_inputs(golden, spec) is False
    monkeypatch.setattr(module, "_network_input", lambda *a: exact(*a) - 1.01 / unit)
    with pytest.raises(GateError, match=r"differs from the package by 1\.01 grey levels"):
        check_inputs(golden, spec)
    monkeypatch.setattr(module, "_network_input", lambda *a: exact(*a) * np.float32("nan"))
    with pytest.raises(GateError, match="by nan grey levels"):
        check_inputs(golden, spec)


def wrong_ways():
    """Other ways of resizing, by name."""
    return {
        "swapped channels": lambda image, size, **k: cv2.resize(image[..., ::-1].copy(), size, **k),
        "nearest": lambda image, size, **k: cv2.resize(
            image, size, **(k | {"interpolation": cv2.INTER_NEAREST})
        ),
        "area": lambda image, size, **k: cv2.resize(
            image, size, **(k | {"interpolation": cv2.INTER_AREA})
        ),
        "mirrored": lambda image, size, **k: cv2.resize(image[:, ::-1].copy(), size, **k),
    }


@pytest.mark.parametrize("way", wrong_ways())
def test_another_way_of_resizing_is_seen(golden, spec, way, monkeypatch):
    resize = wrong_ways()[way]

    def other(image, size, dst, interpolation):
        dst[:] = resize(image, size, interpolation=interpolation)

    fake = SimpleNamespace(**{n: getattr(cv2, n) for n in dir(cv2)})
    fake.resize = other
    monkeypatch.setattr(preprocess, "cv2", fake)
    with pytest.raises(GateError, match="grey levels, allowed 1"):
        check_inputs(golden, spec)


def test_not_halving_first_is_seen(golden, spec, monkeypatch):
    once = lambda place: [ResizeStep(place.source_hw, place.placed_hw)]  # noqa: E731
    monkeypatch.setattr(Placement, "resize_steps", once)
    with pytest.raises(GateError, match="grey levels, allowed 1"):
        check_inputs(golden, spec)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": (0.5, 0.5, 0.5)},
        {"std": (0.25, 0.25, 0.25)},
        {"pad_value": 200},
        {"resize": "stretch"},
    ],
    ids=str,
)
def test_another_spec_is_seen(change):
    spec = SPECS["letterbox"]
    golden = Golden(golden_inputs(spec), (8, 8), (ANSWER,))
    with pytest.raises(GateError, match="grey levels, allowed 1"):
        check_inputs(golden, replace(spec, **change))


def session(boxes, logits):
    """A model of 16 x 16 pixels that always answers the same."""
    spec = ModelSpec((16, 16), ("Car", "Pedestrian"), max_detections=1)
    return SimpleNamespace(
        spec=spec,
        images=np.zeros((1, 3, 16, 16), np.float32),
        infer=lambda: (np.array([logits], np.float32), np.array([boxes], np.float32)),
    )


FRAME = np.zeros((8, 8, 3), np.uint8)
QUARTER = (0.5, 0.5, 0.5, 0.5)  # (2, 2, 6, 6) of the frame


def test_the_best_detections_of_any_score():
    found = best_detections(session([QUARTER] * 3, [(0, -9), (-8, 2), (-7, -7)]), FRAME, 3)
    assert found.labels.tolist() == [1, 0, 0]
    assert found.boxes[0].tolist() == [2, 2, 6, 6]


@pytest.mark.parametrize(
    ("boxes", "logits"),
    [
        ([QUARTER], [(0, -9)]),
        ([(0.55, 0.5, 0.5, 0.5)], [(0, -9)]),
        ([QUARTER], [(0.003, -9)]),
        ([(0.1, 0.1, 0.1, 0.1), QUARTER], [(5, 5), (0, -9)]),
    ],
    ids=["equal", "moved a little", "score a little higher", "another one is better"],
)
def test_an_answer_within_its_tolerance(boxes, logits):
    check_answer(ANSWER, session(boxes, logits), FRAME)


@pytest.mark.parametrize(
    ("boxes", "logits"),
    [
        ([(0.6, 0.5, 0.5, 0.5)], [(0, -9)]),
        ([QUARTER], [(0.01, -9)]),
        ([QUARTER], [(-9, 0)]),
        ([QUARTER, (0.1, 0.1, 0.1, 0.1)], [(-1, -9), (0, -9)]),
    ],
    ids=["moved", "higher score", "another class", "right box and right score of two queries"],
)
def test_an_answer_beyond_its_tolerance(boxes, logits):
    with pytest.raises(
        GateError,
        match=r"1 of its 1 golden detections, the first at \(2, 2, 6, 6\) of score 0\.500",
    ):
        check_answer(ANSWER, session(boxes, logits), FRAME)


SPOTS = tuple((0.1 + 0.15 * n, 0.5, 0.1, 0.5) for n in range(6))  # centre and size, of the input
SIX = GoldenAnswer(
    "models/m.onnx",
    tuple((8 * (x - w / 2), 2, 8 * (x + w / 2), 6) for x, _, w, _ in SPOTS),
    6 * (0.5,),
    6 * (0,),
    0.5,
    1e-3,
)


@pytest.mark.parametrize(
    ("wrong", "lost"), [(0, ()), (1, (0,)), (2, (0, 1)), (6, (0, 1, 2, 3, 4, 5))]
)
def test_a_fifth_of_the_golden_detections_may_be_lost(wrong, lost):
    """One of six is less than a fifth, two are more."""
    answering = session(SPOTS, wrong * [(-2, -9)] + (6 - wrong) * [(0, -9)])
    assert lost_detections(SIX, answering, FRAME) == lost
    if len(lost) <= 1:
        check_answer(SIX, answering, FRAME)
        return
    with pytest.raises(
        GateError, match=f"not find {wrong} of its 6 golden detections.*allowed 20%"
    ):
        check_answer(SIX, answering, FRAME)


def test_a_fifth_itself_may_be_lost():
    five = replace(SIX, boxes=SIX.boxes[:5], scores=SIX.scores[:5], labels=SIX.labels[:5])
    check_answer(five, session(SPOTS, [(-2, -9), *5 * [(0, -9)]]), FRAME)


def test_the_views_of_a_frame():
    frame = np.arange(3 * 6 * 3, dtype=np.uint8).reshape(3, 6, 3)
    same, mirrored, darker, shifted = golden_views(frame)
    assert (same == frame).all()
    assert mirrored[0, 0].tolist() == frame[0, 5].tolist()
    assert darker[1, 1].tolist() == (frame[1, 1] // 2).tolist()
    assert shifted[1, 2].tolist() == frame[0, 0].tolist()


def test_logits_are_noted_by_rank_and_class():
    """Of sixteen queries those of rank 1, 2, 3, 4, 6, 8, 11 and 16: geometric steps, rounded."""
    logits = [(n, -n) for n in range(16)]
    noted = logits_of_views(session([QUARTER] * 16, logits), FRAME)
    assert len(noted) == 4
    ranks = [1, 2, 3, 4, 6, 8, 11, 16]
    firsts = [min(8, 16 - rank) for rank in ranks]
    seconds = [max(-8, 1 - rank) for rank in ranks]
    assert noted[0] == tuple(v for pair in zip(firsts, seconds, strict=True) for v in pair)
    assert noted == logits_of_views(session([QUARTER] * 16, logits[::-1]), FRAME)


def test_logits_that_all_move_a_little_are_seen():
    """Each detection is within its tolerance, the mean over all logits is not."""
    boxes = [QUARTER, *SPOTS]
    logits = [(0, -4), *6 * [(-3, -3)]]
    noted = logits_of_views(session(boxes, logits), FRAME)
    answer = replace(ANSWER, logits=noted, logit_error=0.01)
    check_answer(answer, session(boxes, logits), FRAME)
    moved = [(0.003, -4), *6 * [(-3.02, -2.98)]]
    check_answer(replace(answer, logits=(), logit_error=0.0), session(boxes, moved), FRAME)
    with pytest.raises(
        GateError, match=r"differ by 0\.01\d* in the mean, allowed 0\.01; the model"
    ):
        check_answer(answer, session(boxes, moved), FRAME)
    with pytest.raises(GateError, match="differ by inf in the mean"):
        check_answer(answer, session(boxes[:3], logits[:3]), FRAME)


def test_a_golden_answer_must_hold_something():
    with pytest.raises(ValueError, match="must hold logits of 4 views"):
        replace(ANSWER, logits=((1.0,),))
    with pytest.raises(ValueError, match="as many boxes as scores"):
        GoldenAnswer("m", (), (), (), 0.5, 1e-3)
    with pytest.raises(ValueError, match="2 golden inputs"):
        Golden((), (8, 8), (ANSWER,))
    with pytest.raises(ValueError, match="must keep 256 values"):
        module.GoldenInput((8, 8), "", (1.0,))
