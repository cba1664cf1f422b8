from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import placement
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from edgedetr.runtime.types import Detections

LOG_3 = 1.0986123
HALF = [0.5, 0.5, 0.5, 0.5]


def _run(
    logits: list[list[float]],
    boxes: list[list[float]] | None = None,
    *,
    threshold: float = 0.0,
    keep: int = 100,
) -> Detections:
    names = tuple(f"class{k}" for k in range(len(logits[0])))
    spec = ModelSpec((100, 200), names, max_detections=keep)
    place = placement((50, 100), spec)  # twice as large in the input
    answer = np.array(logits, np.float32), np.array(boxes or [HALF] * len(logits), np.float32)
    return postprocess(*answer, place, spec, threshold)


def test_pairs_come_best_first_in_source_pixels() -> None:
    found = _run([[0.0, LOG_3], [-LOG_3, -9]], [HALF, [0.1, 0.2, 0.2, 0.2]], threshold=0.2)
    assert found.labels.tolist() == [1, 0, 0]
    np.testing.assert_allclose(found.scores, [0.75, 0.5, 0.25], rtol=1e-6)
    middle = [25.0, 12.5, 75.0, 37.5]
    np.testing.assert_allclose(found.boxes, [middle, middle, [0.0, 5.0, 20.0, 15.0]], atol=1e-4)
    assert [a.dtype for a in (found.boxes, found.scores)] == ["float32", "float32"]
    assert found.labels.dtype == "int64"


def test_equal_logits_keep_the_order_of_queries_then_classes() -> None:
    found = _run([[1.0, 1.0], [2.0, 1.0], [1.0, 1.0]], keep=3)
    assert found.labels.tolist() == [0, 0, 1]
    np.testing.assert_allclose(found.scores[1:], 1 / (1 + np.exp(-1)), rtol=1e-6)


def test_only_the_best_are_kept() -> None:
    logits = np.random.default_rng(0).permutation(600).reshape(300, 2).astype(float) / 100
    found = _run(logits.tolist(), keep=7)
    wanted = [1 / (1 + math.exp(-step / 100)) for step in range(599, 592, -1)]
    np.testing.assert_allclose(found.scores, wanted, rtol=1e-6)


def test_fewer_pairs_than_detections_are_all_kept() -> None:
    assert len(_run([[3.0], [1.0], [2.0]], keep=100)) == 3


def test_logits_order_what_scores_cannot() -> None:
    found = _run([[40.0], [50.0]], [[0.2, 0.5, 0.1, 0.1], [0.8, 0.5, 0.1, 0.1]])
    assert found.scores.tolist() == [1, 1]
    assert found.boxes[0, 0] > found.boxes[1, 0]


def test_extreme_logits_do_not_overflow() -> None:
    assert _run([[-3e38], [3e38]]).scores.tolist() == [1, 0]


def test_the_threshold_itself_counts() -> None:
    assert len(_run([[0.0], [-1e-3]], threshold=0.5)) == 1


def test_nothing_found_is_empty() -> None:
    found = _run([[-9.0]], threshold=0.5)
    assert (len(found), found.boxes.shape) == (0, (0, 4))


@pytest.mark.parametrize("box", [[1.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.0, 0.2], [0.5, 0.5, 0.2, -0.1]])
def test_a_box_without_area_in_the_image_is_no_detection(box: list[float]) -> None:
    assert len(_run([[5.0], [4.0]], [box, HALF])) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ArtifactError, match="1 of the model's 2 logits are not finite"):
        _run([[0.0], [bad]])
    with pytest.raises(ArtifactError, match="1 of the model's 8 boxes are not finite"):
        _run([[0.0], [1.0]], [HALF, [bad, 0.5, 0.1, 0.1]])
