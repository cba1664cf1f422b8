"""What came of a model."""

import pytest

from edgedetr.runtime.device_check.engines import Model
from edgedetr.runtime.device_check.measure import Pace
from edgedetr.runtime.device_check.model_check import Place, check_model, describe
from edgedetr.runtime.files import sha256
from edgedetr.runtime.images import list_images, read_frames

PACE = Pace(2, 1000.0)


@pytest.fixture
def checked(inspected, engine_beside_onnx, images, tmp_path):
    """Check the tiny engine under some precision; the keywords change the engine."""
    del inspected

    def check(precision="", source=True, **changes):
        engine, onnx = engine_beside_onnx(**changes)
        model = Model("tiny.engine", engine, onnx if source else None, precision)
        frames = read_frames(list_images(images))
        return check_model(model, frames, PACE, Place(tmp_path)), engine

    return check


def test_an_engine_that_may_ship(checked):
    found, engine = checked("fp16")
    assert found.problems == ()
    assert (found.name, found.sha256) == ("tiny.engine", sha256(engine))
    assert found.check.agreement.lost == 0


def test_an_engine_that_finds_something_else(checked):
    found, _ = checked(boxes=[[0.7, 0.5, 0.5, 0.5], [0.25, 0.25, 0.5, 0.5]])
    assert found.problems == (
        "2 of 2 detections differ from the ONNX file, wanted at most a tenth of at least one",
    )


def test_an_engine_that_has_nothing_of_its_precision(checked):
    found, _ = checked("int8")
    assert found.problems == ("nothing in the engine computes in int8, only in FP32, FP16",)


def test_an_engine_without_its_onnx_file(checked):
    found, _ = checked(source=False)
    assert found.problems == (
        "there is no ONNX file to compare with; put the one it was built from here",
    )


def test_a_model_that_cannot_be_built(tiny_onnx, tmp_path):
    found = check_model(Model("m", tiny_onnx()), [], PACE, Place(tmp_path))
    assert found.check is None
    assert "no engine was built" in found.problems[0]
    assert describe(found) == f"m: {found.problems[0]}"


def test_a_rehearsal_needs_no_gpu(tiny_onnx, images, tmp_path):
    onnx = tiny_onnx()
    frames = read_frames(list_images(images))
    found = check_model(Model("m", onnx), frames, PACE, Place(tmp_path, simulate=True))
    assert (found.problems, found.build_s) == ((), None)
    assert (found.check.memory_mib, found.check.layers) == (None, None)
    assert found.check.unpaced.samples == found.check.paced.samples == 2
    assert (found.check.agreement.lost, found.check.agreement.frames) == (0, len(frames))
    engine = Model("m.engine", tmp_path / "m.engine", None)
    (tmp_path / "m.engine").write_bytes(b"engine")
    found = check_model(engine, frames, PACE, Place(tmp_path, simulate=True))
    assert "the ONNX file that it was built from is not beside it" in found.problems[0]


def test_one_line_a_model(model_check):
    assert describe(model_check("m", precision="")) == (
        "m: passed; p50 3.00, paced p99 5.00, p99.9 6.00 ms, 1 of 2 frames late; layers: 3 INT8, "
        "1 FP16; products: 2 INT8; 1 reformat, 0 quantizers left over; CUDA graph yes, frame "
        "kernel no"
    )
