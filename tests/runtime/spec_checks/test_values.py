from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgedetr.runtime.decode import softmax
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec
from edgedetr.runtime.spec_checks.values import check_values

SPEC = ModelSpec(input_hw=(96, 320), class_names=("Car", "Pedestrian", "Cyclist"))
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (1, 40, 3)).astype(np.float32)
BOXES = RNG.uniform(0.2, 0.4, (1, 40, 4)).astype(np.float32)


def test_a_log_softmax_is_no_logits_of_a_sigmoid():
    shares = np.log(softmax(LOGITS))
    with pytest.raises(ArtifactError, match="as a log-softmax gives them"):
        check_values([shares, BOXES], SPEC, Path("m.onnx"))
    check_values([shares, BOXES], replace(SPEC, activation="softmax_logits"), Path("m.onnx"))


def test_logits_are_what_they_are():
    check_values([LOGITS, BOXES], SPEC, Path("m.onnx"))


SCORES = (1 / (1 + np.exp(-LOGITS))).astype(np.float32)
SHARES = softmax(LOGITS)


@pytest.mark.parametrize(
    ("activation", "values", "words"),
    [
        ("sigmoid_logits", 100 * SCORES, "as logits, each of 120 would be a score of a half"),
        ("sigmoid_logits", np.floor(100 * SCORES), r", \d+ of them exactly 0: as logits"),
        ("sigmoid_logits", 255 * SCORES, "are they percentages"),
        ("softmax_logits", 100 * SHARES, "those of a query add up to 100; are they percentages"),
        ("sigmoid", 100 * SCORES, r"wanted scores in \[0, 1\] .*; are they percentages"),
        ("softmax", 100 * SHARES, r"wanted scores in \[0, 1\] .*; are they percentages"),
        ("sigmoid", LOGITS, 'set activation = "sigmoid_logits"'),
        ("sigmoid_logits", SCORES, 'set activation = "sigmoid"'),
        ("softmax_logits", SHARES, 'set activation = "softmax"'),
    ],
)
def test_scores_that_contradict_their_activation_are_refused(activation, values, words):
    with pytest.raises(ArtifactError, match=words):
        check_values([values, BOXES], replace(SPEC, activation=activation), Path("m.onnx"))


@pytest.mark.parametrize(
    ("activation", "values"),
    [
        ("softmax_logits", LOGITS + 20),  # a softmax does not mind
        ("sigmoid_logits", LOGITS[:, :3] + 20),  # of few queries all may be objects
        ("sigmoid_logits", LOGITS - 20),
    ],
)
def test_scores_that_may_be_logits_pass(activation, values):
    boxes = BOXES[:, : values.shape[1]]
    check_values([values, boxes], replace(SPEC, activation=activation), Path("m.onnx"))


def test_the_best_logits_may_all_be_high_and_no_percentages():
    spec = replace(SPEC, labels_name="labels")
    labels = np.zeros((1, 40), np.int64)
    best = np.sort(np.abs(LOGITS[..., 0]))[:, ::-1]
    check_values([best, BOXES, labels], spec, Path("m.onnx"))
    with pytest.raises(ArtifactError, match="are they percentages"):
        check_values([10 * best, BOXES, labels], spec, Path("m.onnx"))


@pytest.mark.parametrize("box_format", ["xyxy", "cxcywh"])
def test_y_before_x_is_seen_in_pixels_of_a_wide_picture(box_format):
    spec = replace(SPEC, box_format=box_format, box_unit="pixels")
    low = RNG.uniform(0, 0.6, (1, 40, 2))
    size = RNG.uniform(0.1, 0.4, (1, 40, 2))
    second = low + size if box_format == "xyxy" else size
    first = low if box_format == "xyxy" else low + size / 2
    boxes = (np.concatenate([first, second], -1) * [320, 96, 320, 96]).astype(np.float32)
    check_values([LOGITS, boxes], spec, Path("m.onnx"))
    with pytest.raises(ArtifactError, match="320 wide and 96 high, so y comes before x; swap"):
        check_values([LOGITS, boxes[..., [1, 0, 3, 2]]], spec, Path("m.onnx"))
