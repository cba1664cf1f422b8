"""Sizes that are the same for every input are known without running the graph."""

import numpy as np
import pytest

from edgedetr.graph.folded_sizes import FoldedSizes


@pytest.fixture
def counted(onnx_model):
    """The K of a TopK is half of the number of cells of the input."""

    def build(width):
        return onnx_model(
            [
                ("Flatten", "rows", ["x"], "rows", {}),
                ("Shape", "shape", ["rows"], "shape", {}),
                ("Gather", "cells", ["shape", "one"], "cells", {}),
                ("Div", "half", ["cells", "two"], "k", {}),
                ("TopK", "best", ["rows", "k"], ("scores", "index"), {}),
            ],
            {"one": np.array([1]), "two": np.array([2])},
            inputs={"x": (1, 4, width)},
            outputs=["scores"],
        )

    return build


def test_a_size_is_worked_out_from_shapes_and_constants(counted):
    found = FoldedSizes(counted(6)).value("k")
    assert found is not None
    assert found.tolist() == [12]


def test_a_size_that_follows_the_input_is_not_known_and_has_a_source(counted):
    sizes = FoldedSizes(counted("width"))
    assert sizes.value("k") is None
    assert sizes.source("k") == "a free size of rows"


def test_numbers_of_the_input_are_not_known(onnx_model):
    nodes = [("Cast", "whole", ["x"], "k", {"to": 7}), ("Add", "more", ["k", "k"], "y", {})]
    model = onnx_model(nodes, {}, inputs={"x": (1,)}, outputs=[])
    sizes = FoldedSizes(model)
    assert sizes.value("y") is None
    assert sizes.source("y") == "whole (Cast)"
    assert sizes.source("x") == "the input x"
