"""A model must give an image the same outputs in any batch, in any row."""

import numpy as np
import pytest
from typing_extensions import override

from edgedetr.export.verify.batches import check_batches
from edgedetr.export.verify.compare import verify
from edgedetr.export.verify.limits import Gate
from edgedetr.export.verify.matching import Rule
from edgedetr.runtime.spec import ModelSpec

FRAMES = [np.full((8, 16, 3), grey, np.uint8) for grey in (250, 120)]
FRAMES[0][:, :8] = 0


class Batched:
    """Two queries whose logits and boxes follow the left and right half of each image."""

    spec = ModelSpec((8, 16), ("Car", "Pedestrian"))

    def __init__(self, sizes, spoil=None, precision="fp32"):
        self.batch_sizes, self.precision = sizes, precision
        self.spoil = spoil

    def __call__(self, images):
        assert len(images) in self.batch_sizes
        halves = np.stack([images[..., :8].mean((1, 2, 3)), images[..., 8:].mean((1, 2, 3))], 1)
        logits = np.stack([halves, -halves], 2).astype(np.float32)
        boxes = np.repeat(0.2 + 0.2 * halves[..., None], 4, axis=2).astype(np.float32)
        if self.spoil:
            self.spoil(logits, boxes)
        return logits, boxes


def checks(*arguments):
    return {(c.size, c.test): c for c in check_batches(Batched(*arguments), "net", FRAMES)}


def test_a_model_of_one_image_has_no_batches():
    assert check_batches(Batched((1,)), "net", FRAMES) == ()


def test_a_good_model_of_any_batch():
    found = checks((1, 2, 4))
    assert list(found) == [
        *((2, test) for test in ("equal rows", "different rows", "as alone")),
        *((4, test) for test in ("equal rows", "different rows", "as alone")),
    ]
    assert all(check.holds and not check.reason for check in found.values())
    assert {check.unmatched for check in found.values()} == {0}


def test_a_good_model_of_a_fixed_batch():
    assert list(checks((3,))) == [(3, "equal rows"), (3, "different rows")]


def test_equal_images_must_get_equal_outputs():
    def last_row_wrong(_, boxes):
        boxes[-1, 0, 0] += 0.04

    found = checks((4,), last_row_wrong)
    assert not found[4, "equal rows"].holds
    assert found[4, "equal rows"].max_box_error_px == pytest.approx(0.64, abs=0.01)
    assert "net: equal images of a batch of 4 get different" in found[4, "equal rows"].reason


def test_images_must_not_affect_each_other():
    def averaged(logits, _):
        logits[:] = logits.mean(axis=0)

    found = checks((2,), averaged)
    assert found[2, "equal rows"].holds
    assert not found[2, "different rows"].holds
    assert "net: the images of a batch of 2 affect each" in found[2, "different rows"].reason


def test_a_batch_must_give_the_outputs_of_one_image():
    def louder(logits, _):
        logits += 0.1 * (len(logits) > 1)

    found = checks((1, 2), louder)
    assert found[2, "equal rows"].holds
    assert found[2, "different rows"].holds
    assert "outputs in a batch of 2 than in the smallest batch: " in found[2, "as alone"].reason


def test_fp16_may_round():
    def rounded(logits, _):
        logits[-1] += 0.01

    assert not checks((2,), rounded)[2, "equal rows"].holds
    assert checks((2,), rounded, "fp16")[2, "equal rows"].holds


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("size", [2, 4, 32])
def test_one_wrong_row_is_not_excused_by_the_others(precision, size):
    """Of 32 equal images one gets other outputs: 3 % of all detections, but all of that row."""

    def last_row_otherwise(logits, boxes):
        logits[-1] *= -1
        boxes[-1] = 1 - boxes[-1]

    found = checks((size,), last_row_otherwise, precision)
    for test in ("equal rows", "different rows"):
        check = found[size, test]
        assert not check.holds
        assert f"{check.lost} of {check.compared} detections lost, " in check.reason


@pytest.mark.parametrize(("queries", "holds"), [(9, True), (8, False)])
def test_a_fifth_of_a_row_may_fall_the_other_way(queries, holds):
    """One query moves in the last row: its two classes lose their matches in both rows.

    With nine queries that are four of 16 + 4 detections, a fifth; with eight four of 14 + 4.
    """

    class Many(Batched):
        @override
        def __call__(self, images):
            count = len(images)
            boxes = np.full((count, queries, 4), 0.05, np.float32)
            boxes[..., 0] = (np.arange(queries) + 0.5) / queries
            boxes[-1, 0, 1] += 0.5
            return np.zeros((count, queries, 2), np.float32), boxes

    (equal, *_) = check_batches(Many((4,), precision="fp16"), "net", FRAMES)
    assert (equal.lost, equal.unmatched) == (4, 4)
    assert equal.holds == holds
    (equal, *_) = check_batches(Many((4,)), "net", FRAMES)
    assert not equal.holds


def test_numbers_that_are_not_finite_fail():
    def broken(logits, _):
        logits[-1] = np.nan

    found = checks((2,), broken)[2, "equal rows"]
    assert (found.holds, found.non_finite) == (False, 4)
    assert found.reason.endswith(": 4 output values not finite")


@pytest.mark.parametrize(("batch", "tests"), [("N", 6), (3, 2), (1, 0)])
def test_verify_checks_the_batches_of_an_onnx_file(tiny_onnx, batch, tests):
    """A tiny model squeezes its batch away, so a larger one mixes its images or fails."""
    path = tiny_onnx(batch=batch)
    if tests:
        _keep_batch(path)
    white = [np.full((20, 40, 3), 255, np.uint8)]
    report = verify(path, path, white, Rule(), Gate())
    assert report.passed, report.reason
    assert len(report.batches) == 2 * tests
    assert report.table().count(f"{path.name}, batch of ") == 2 * tests


def _keep_batch(path):
    """Give each image of the tiny model its own mean and its own boxes."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "Mul" and node.name == "stop":
            node.input[0] = "each"
    reshape = onnx.helper.make_node("Reshape", ["mean", "rows"], ["each"], "each")
    model.graph.node.insert(2, reshape)
    next(n for n in model.graph.node if n.name == "amplify").input[0] = "each"
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 1, 1]), "rows"))
    del model.graph.output[:]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", "Q", size])
        for name, size in (("logits", 2), ("boxes", 4))
    )
    onnx.save(model, path)
