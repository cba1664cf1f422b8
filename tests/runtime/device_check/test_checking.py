"""The engine of one model is run, or its ONNX file in a rehearsal."""

import pytest

from edgedetr.runtime.device_check.agreement import Agreement
from edgedetr.runtime.device_check.checking import Place, check_model
from edgedetr.runtime.device_check.engines import Model
from edgedetr.runtime.device_check.measure import Pace
from edgedetr.runtime.device_check.model_check import describe
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
    assert found.check
    assert (found.check.memory_mib, found.check.layers) == (None, None)
    assert found.check.unpaced.samples == found.check.paced.samples == 2
    assert found.check.agreement == Agreement(2, 2, 0)  # the object of the white image, in both
    engine = Model("m.engine", tmp_path / "m.engine", None)
    (tmp_path / "m.engine").write_bytes(b"engine")
    found = check_model(engine, frames, PACE, Place(tmp_path, simulate=True))
    assert "the ONNX file that it was built from is not beside it" in found.problems[0]
