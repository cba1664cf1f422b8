"""Outputs of each convention become logits of sigmoids and boxes cxcywh in fractions."""

import numpy as np
import pytest

from edgedetr.runtime.decode import NO_SCORE, decode
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

NAMES = ("Car", "Pedestrian")
BOX = np.array([[[0.5, 0.25, 0.5, 0.5]]], np.float32)


def spec(**settings):
    return ModelSpec((100, 200), NAMES, **settings)


def scores_of(logits):
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def test_the_outputs_of_the_plain_convention_are_returned_themselves():
    logits = np.zeros((1, 1, 2), np.float32)
    found = decode([logits, BOX], spec())
    assert found[0] is logits
    assert found[1] is BOX


def test_a_softmax_gives_scores_without_the_column_of_no_object():
    logits = np.log(np.array([[[0.2, 0.3, 0.5]]], np.float32))
    for column, wanted in ((-1, [0.2, 0.3]), (0, [0.3, 0.5])):
        found, _ = decode([logits, BOX], spec(activation="softmax_logits", no_object=column))
        assert scores_of(found)[0, 0] == pytest.approx(wanted, rel=1e-5)


def test_scores_stay_scores_and_those_rounded_beyond_1_are_clipped():
    given = np.array([[[0.75, 1.005]]], np.float32)
    found, _ = decode([given, BOX], spec(activation="sigmoid"))
    assert scores_of(found)[0, 0] == pytest.approx([0.75, 1], rel=1e-5)
    assert np.isfinite(found).all()


def test_logits_where_the_spec_has_scores_are_refused():
    given = np.array([[[-3.0, 2.0]]], np.float32)
    with pytest.raises(ArtifactError, match=r"from -3 to 2, .* activation = \"sigmoid_logits\""):
        decode([given, BOX], spec(activation="sigmoid"))


def test_the_one_score_of_a_query_goes_to_its_label():
    labels_spec = spec(activation="sigmoid", labels_name="labels")
    score, label = np.array([[0.5]], np.float32), np.array([[1]], np.int64)
    found, _ = decode([score, BOX, label], labels_spec)
    assert found[0, 0].tolist() == [NO_SCORE, 0]
    with pytest.raises(ArtifactError, match=r"labels from 2 to 2, .* 2 class_names, so 0 to 1"):
        decode([score, BOX, label + 1], labels_spec)


def test_corners_in_pixels_become_centre_and_size_in_fractions():
    corners = np.array([[[50, 25, 150, 75]]], np.float32)  # of 200 x 100 pixels
    logits = np.zeros((1, 1, 2), np.float32)
    _, boxes = decode([logits, corners], spec(box_format="xyxy", box_unit="pixels"))
    assert boxes[0, 0].tolist() == [0.5, 0.5, 0.5, 0.5]


def test_one_output_holds_boxes_then_classes():
    fused = np.array([[[0.5, 0.25, 0.5, 0.5, 1.0, -1.0]]], np.float32)
    logits, boxes = decode([fused], spec(fused=True, logits_name="out", boxes_name="out"))
    assert boxes.tolist() == BOX.tolist()
    assert logits[0, 0].tolist() == [1, -1]
