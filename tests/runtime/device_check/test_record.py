"""What came of a model, and the verdict over all."""

import json
from dataclasses import replace

import pytest

from edgedetr.runtime.cuda.device import CudaDevice
from edgedetr.runtime.cuda.engine_layers import EngineLayers
from edgedetr.runtime.device_check.agreement import Agreement
from edgedetr.runtime.device_check.engines import Model
from edgedetr.runtime.device_check.measure import EngineCheck, Pace
from edgedetr.runtime.device_check.record import (
    ModelCheck,
    check_model,
    describe,
    fastest,
    record,
)
from edgedetr.runtime.files import sha256
from edgedetr.runtime.images import list_images, read_frames
from edgedetr.runtime.timing import Latency

PACE = Pace(2, 1000.0)
LATENCY = Latency(2, 3.0, 4.0, 5.0, 6.0, 7.0)
LAYERS = EngineLayers({"INT8": 3, "FP16": 1}, {"INT8": 2}, ("conv",), (), 1, 0)
CHECK = EngineCheck(
    "tensorrt 10.3.0, Orin", LAYERS, True, False, 9.5, LATENCY, LATENCY, 1, Agreement(2, 3, 0)
)


@pytest.fixture
def checked(inspected, engine_beside_onnx, images, tmp_path):
    """Check the tiny engine under some precision; the keywords change the engine."""
    del inspected

    def check(precision="", source=True, **changes):
        engine, onnx = engine_beside_onnx(**changes)
        model = Model("tiny.engine", engine, onnx if source else None, precision)
        frames = read_frames(list_images(images))
        return check_model(model, frames, PACE, state=tmp_path, build=None), engine

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
    found = check_model(Model("m", tiny_onnx()), [], PACE, state=tmp_path, build=None)
    assert found.check is None
    assert "no engine was built" in found.problems[0]
    assert describe(found) == f"m: {found.problems[0]}"


def test_the_fastest_has_no_problem_and_the_lowest_p99():
    slow = ModelCheck("fp16", "a", "fp16", 1.5, (), CHECK)
    fast = replace(slow, name="int8", check=replace(CHECK, paced=replace(LATENCY, p99_ms=4.5)))
    assert fastest([slow, fast]) == "int8"
    assert fastest([slow, replace(fast, problems=("differs",))]) == "fp16"
    assert fastest([replace(slow, check=None)]) is None


def test_the_record(tmp_path):
    good = ModelCheck("int8", "a", "int8", None, (), CHECK)
    device = CudaDevice("Orin", "8.7")

    def made(*checks):
        return record(tmp_path / "m.tar", device, checks, PACE, {"cpu": 40.5}, "edgedetr device")

    found = json.loads(json.dumps(made(good), allow_nan=False))
    assert (found["format"], found["verdict"]) == ("edgedetr-device-check-1", "passed")
    assert (found["model"], found["fastest"]) == ("m.tar", "int8")
    assert found["device"] == {"name": "Orin", "compute_capability": "8.7"}
    assert found["temperatures_c"]["before"] == {"cpu": 40.5}
    assert found["models"][0]["check"]["paced"]["p999_ms"] == 6
    assert found["models"][0]["check"]["agreement"] == {"frames": 2, "detections": 3, "lost": 0}
    assert made(good, replace(good, problems=("differs",)))["verdict"] == "failed"
    assert made()["verdict"] == "failed"


def test_one_line_a_model():
    assert describe(ModelCheck("m", "a", "", None, (), CHECK)) == (
        "m: passed; p50 3.00, paced p99 5.00, p99.9 6.00 ms, 1 of 2 frames late; layers: 3 INT8, "
        "1 FP16; products: 2 INT8; 1 reformat, 0 quantizers left over; CUDA graph yes, frame "
        "kernel no"
    )
