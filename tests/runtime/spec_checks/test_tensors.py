"""Inputs and outputs of a model are held to its spec, with advice where one knows what is wrong."""

from pathlib import Path

import numpy as np
import pytest

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ExtraInput, ModelSpec
from edgedetr.runtime.spec_checks.tensors import (
    check_inputs,
    check_output_names,
    check_outputs,
    extra_feeds,
    output_shapes,
    refuse_dense,
)

PATH = Path("m.onnx")
NAMES = ("Car", "Pedestrian")
SPEC = ModelSpec((64, 96), NAMES)
SIZED = ModelSpec((64, 96), NAMES, extra_inputs=(ExtraInput("size", "width_height"),))


@pytest.mark.parametrize(
    ("kind", "shape", "advice"),
    [
        ("float16", [1, 3, 64, 96], "export it with an image of float32, not float16"),
        ("float32", [1, 64, 96, 3], "export it with the channels first"),
        ("float32", [1, 3, 96, 64], r"set input_hw to \[96, 64\]"),
        ("float32", ["batch", 3, 64, 96], "export it with a static batch, such as 1"),
    ],
)
def test_an_image_of_another_kind_is_refused_with_advice(kind, shape, advice):
    check_inputs({"images": ("float32", [1, 3, 64, 96])}, SPEC, PATH)
    with pytest.raises(ArtifactError, match=rf"^m.onnx takes images {kind} .*; {advice}$"):
        check_inputs({"images": (kind, shape)}, SPEC, PATH)


def test_a_free_batch_is_taken_on_request_alone():
    check_inputs({"images": ("float32", ["batch", 3, "height", 96])}, SPEC, PATH, may_be_open=True)
    with pytest.raises(ArtifactError, match="takes images"):
        check_inputs({"images": ("float32", ["batch", 3, 65, 96])}, SPEC, PATH, may_be_open=True)


def test_an_input_that_the_spec_does_not_name_is_refused():
    found = {"images": ("float32", [1, 3, 64, 96]), "size": ("int64", [1, 2])}
    check_inputs(found, SIZED, PATH)
    with pytest.raises(ArtifactError, match=r"what to feed size: \[\[extra_inputs\]\] name"):
        check_inputs(found, SPEC, PATH)
    with pytest.raises(ArtifactError, match=r"set input_name to the image's name \(x\)"):
        check_inputs({"x": found["images"]}, SPEC, PATH)


def test_a_size_is_fed_for_each_image_in_the_type_of_the_input():
    feeds = extra_feeds({"size": ("int32", ["batch", 2])}, SIZED, PATH, batch=3)
    assert feeds["size"].tolist() == [[96, 64]] * 3
    assert feeds["size"].dtype == np.int32
    for kind, shape in (("int64", (1, 3)), ("string", (1, 2)), ("int64", (1, "two"))):
        with pytest.raises(ArtifactError, match=r"wanted integers or float32 of known sizes, such"):
            extra_feeds({"size": (kind, shape)}, SIZED, PATH)


def outputs(logits, boxes=("float32", [1, 10, 4])):
    return {"logits": logits, "boxes": boxes}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (outputs(("float32", [1, 10, 3])), "set its index .no_object = -1 is the last."),
        (outputs(("float32", [1, 10, 80])), "name every class that it was trained on"),
        (outputs(("float32", [10, 2])), "export it with a batch in front"),
        (outputs(("float16", [1, 10, 2])), "cast float16 to float32 inside the graph"),
        (outputs(("float32", [1, 0, 2])), "without a single query"),
        (outputs(("float32", [1, 9, 2])), r"its spec wants float32 logits \(1, 10, 2\) and boxes"),
        ({"out": ("float32", [1, 10, 6])}, "out, its spec wants boxes and logits"),
    ],
)
def test_outputs_that_do_not_fit_are_refused_with_advice(found, message):
    check_outputs(outputs(("float32", [1, "queries", 2])), SPEC, PATH)
    with pytest.raises(ArtifactError, match=rf"^m.onnx outputs .*{message}"):
        check_outputs(found, SPEC, PATH)


def test_each_convention_has_its_shapes():
    fused = ModelSpec((64, 96), NAMES, fused=True, logits_name="out", boxes_name="out")
    labelled = ModelSpec((64, 96), NAMES, activation="sigmoid", labels_name="labels")
    background = ModelSpec((64, 96), NAMES, activation="softmax_logits", no_object=-1)
    assert output_shapes(fused, 10) == [("float32", (1, 10, 6))]
    assert output_shapes(background, 10, 2)[0] == ("float32", (2, 10, 3))
    assert output_shapes(labelled, 10) == [
        ("float32", (1, 10)),
        ("float32", (1, 10, 4)),
        ("int64", (1, 10)),
    ]


def test_one_output_named_twice_needs_fused():
    twice = ModelSpec((64, 96), NAMES, logits_name="out", boxes_name="out")
    with pytest.raises(ArtifactError, match=r"names out twice, .* set fused = true"):
        check_output_names({"out": ("float32", [1, 10, 6])}, twice, PATH)


def test_a_row_for_each_cell_is_no_detr():
    # strides 8, 16 and 32 of 64 x 96 pixels: 96 + 24 + 6 cells
    for rows in (126, 3 * 126, 3001):
        with pytest.raises(ArtifactError, match="dense anchors, which need non-maximum"):
            refuse_dense("out", [1, rows, 6], SPEC, PATH)
    refuse_dense("out", [1, 300, 6], SPEC, PATH)
