"""Engines that are damaged or not what their spec says, and their tensors."""

import numpy as np
import pytest

from edgedetr.runtime.backends import tensorrt
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.manifest import write_manifest
from edgedetr.runtime.spec import ModelSpec

WHITE, BLACK = 4.0, -4.0  # the first logit


def test_a_damaged_engine_is_named_with_what_the_library_says(opened, gpu):
    with pytest.raises(ArtifactError, match=r"tiny.engine cannot be loaded: .*magicTag mismatch"):
        opened(data=b"hello")
    gpu.check_clean()


def test_tensorrt_rtx_diagnoses_a_damaged_engine(opened):
    with pytest.raises(ArtifactError, match=r"\(invalid: malformed_engine\)"):
        opened(library="tensorrt_rtx", version="1.7.1", data=b"hello")


def test_an_onnx_file_called_an_engine_is_refused(install_trt, tiny_engine):
    install_trt()
    path = tiny_engine()
    write_manifest(path, kind="onnx", command="", spec=ModelSpec((8, 16), ("Car",)))
    with pytest.raises(ArtifactError, match=r"tiny.engine is of kind onnx, wanted an engine"):
        tensorrt.open_session(path)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (
            {"inputs": {"images": ["HALF", [1, 3, 8, 16]]}},
            r"takes images half \[1, 3, 8, 16\], its spec says images float32 \[1, 3, 8, 16\]",
        ),
        ({"inputs": {"images": ["FLOAT", [2, 3, 8, 16]]}}, r"outputs float32 \(1, 2, 2\)"),
        (
            {"inputs": {"images": ["FLOAT", [1, 3, 8, 16]], "size": ["INT32", [2]]}},
            r"takes images .*, size int32 \[2\]",
        ),
        ({"inputs": {"pixels": ["FLOAT", [1, 3, 8, 16]]}}, "takes pixels .* its spec says images"),
        (
            {"outputs": {"logits": ["FLOAT", [1, 2, 3]], "boxes": ["FLOAT", [1, 2, 4]]}},
            r"outputs float32 \(1, 2, 3\)",
        ),
        ({"outputs": {"logits": ["FLOAT", [1, 2, 2]]}}, "outputs logits, its spec wants boxes"),
    ],
)
def test_an_engine_that_is_not_what_its_spec_says_is_refused(opened, gpu, engine, message):
    with pytest.raises(ArtifactError, match=message):
        opened(**engine)
    gpu.check_clean()


FREE_BATCH = {
    "inputs": {"images": ["FLOAT", [-1, 3, 8, 16]]},
    "outputs": {"logits": ["FLOAT", [-1, 2, 2]], "boxes": ["FLOAT", [-1, 2, 4]]},
}


def test_a_free_batch_is_fixed_to_the_usual_one(opened, answer):
    assert answer(opened(**FREE_BATCH), 1) == WHITE
    session = opened(**FREE_BATCH, profile=[1, 3, 4])
    assert session.images.shape == (3, 3, 8, 16)
    assert [a.shape for a in session.infer()] == [(3, 2, 2), (3, 2, 4)]


def test_each_row_of_a_batch_has_its_own_answer(opened):
    session = opened(
        inputs={"images": ["FLOAT", [2, 3, 8, 16]]},
        outputs={"logits": ["FLOAT", [2, 2, 2]], "boxes": ["FLOAT", [2, 2, 4]]},
    )
    assert session.feed is None
    assert session.images.shape == (2, 3, 8, 16)
    session.images[1] = 1
    logits, boxes = session.infer()
    assert (logits.shape, boxes.shape) == ((2, 2, 2), (2, 2, 4))
    assert not np.array_equal(logits[0], logits[1])


def test_outputs_that_nobody_asked_for_get_memory(opened, answer):
    outputs = {"logits": ["FLOAT", [1, 2, 2]], "boxes": ["FLOAT", [1, 2, 4]]}
    session = opened(outputs=outputs | {"memory": ["FLOAT", [1, 50, 8]]})
    assert answer(session, 1) == WHITE
