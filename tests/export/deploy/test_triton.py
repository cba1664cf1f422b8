import re
import runpy
import sys
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgedetr.export.deploy.triton import (
    DETECTOR,
    MODEL,
    POSTPROCESS,
    PREPROCESS,
    quoted,
    write_repository,
)
from edgedetr.runtime.detector import Detector
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.spec import ModelSpec
from edgedetr.runtime.types import Frame

ENGINE = "models/m.engine"
TOKEN = re.compile(r'\s*(?:#[^\n]*\n\s*)*("(?:[^"\\]|\\.)*"|[\[\]{}:,]|[\w.+-]+)')


def read_pbtxt(text):
    """Read the text format of protobuf: a dictionary of lists of values."""
    tokens = TOKEN.findall(text + "\n")
    return _message(tokens)


def _message(tokens):
    fields: dict[str, list[Any]] = {}
    while tokens and tokens[0] != "}":
        name = tokens.pop(0)
        if tokens[0] == ":":
            tokens.pop(0)
        values = fields.setdefault(name, [])
        if tokens[0] != "[":
            values.append(_value(tokens))
            continue
        tokens.pop(0)
        while tokens[0] != "]":
            values.append(_value(tokens))
            if tokens[0] == ",":
                tokens.pop(0)
        tokens.pop(0)
    return fields


def _value(tokens):
    found = tokens.pop(0)
    if found == "{":
        message = _message(tokens)
        tokens.pop(0)
        return message
    if found.startswith('"'):
        return re.sub(r"\\(.)", r"\1", found[1:-1])
    return int(found) if re.fullmatch(r"-?\d+", found) else found


def test_a_repository_of_an_onnx_model(packaged, tmp_path):
    write_repository(packaged(), tmp_path / "made")
    folder = tmp_path / "made" / MODEL
    found = read_pbtxt((folder / "config.pbtxt").read_text(encoding="utf-8"))
    assert found["name"] == [MODEL]
    assert (found["platform"], found["backend"]) == (["onnxruntime_onnx"], ["onnxruntime"])
    assert found["max_batch_size"] == [0]
    images = {"name": ["images"], "data_type": ["TYPE_FP32"], "dims": [1, 3, 8, 16]}
    assert found["input"] == [images]
    assert [(o["name"], o["dims"]) for o in found["output"]] == [
        (["logits"], [1, 2, 2]),
        (["boxes"], [1, 2, 4]),
    ]
    assert found["instance_group"] == [{"count": [1], "kind": ["KIND_AUTO"]}]
    served = onnx.load(folder / "1" / found["default_model_filename"][0])
    assert served.graph.input[0].name == "images"
    assert (folder / "labels.txt").read_text(encoding="utf-8") == "Car\nPedestrian\n"
    assert "not run" in (tmp_path / "made/README.md").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="exists; remove it"):
        write_repository(packaged(), tmp_path / "made")


def test_an_engine_is_served_by_tensorrt(packaged, tmp_path):
    write_repository(packaged(engine="tensorrt>=10.3.0"), tmp_path / "made", ENGINE)
    folder = tmp_path / "made" / MODEL
    found = read_pbtxt((folder / "config.pbtxt").read_text(encoding="utf-8"))
    assert (found["platform"], found["backend"]) == (["tensorrt_plan"], ["tensorrt"])
    assert found["instance_group"][0]["kind"] == ["KIND_GPU"]
    assert (folder / "1/model.plan").read_bytes() == b"engine"


def test_names_are_quoted(packaged, tmp_path):
    name = 'a "b" \\'
    write_repository(
        packaged(ModelSpec((8, 16), ("Car", "Van"), logits_name=name)), tmp_path / "made"
    )
    text = (tmp_path / "made" / MODEL / "config.pbtxt").read_text(encoding="utf-8")
    assert read_pbtxt(text)["output"][0]["name"] == [name]
    assert read_pbtxt(f"name: {quoted(name)}") == {"name": [name]}


class FakeBackend:
    """What Triton hands a Python model: tensors by name, responses and errors."""

    class Tensor:
        def __init__(self, name, array):
            self.name, self._array = name, array

        def as_numpy(self):
            return self._array

    class TritonError(Exception):
        pass

    class InferenceResponse:
        def __init__(self, tensors=(), error=None):
            self.tensors = {t.name: t.as_numpy() for t in tensors}
            self.error = error

    @staticmethod
    def get_input_tensor_by_name(request, name):
        return FakeBackend.Tensor(name, request[name])


@pytest.fixture
def served(monkeypatch):
    """Run an ensemble as its configuration wires it, the network in ONNX Runtime."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", FakeBackend)

    def run(folder, image):
        config = read_pbtxt((folder / DETECTOR / "config.pbtxt").read_text(encoding="utf-8"))
        tensors = {"image": image}
        for step in config["ensemble_scheduling"][0]["step"]:
            (name,) = step["model_name"]
            inputs = {m["key"][0]: tensors[m["value"][0]] for m in step["input_map"]}
            if name == MODEL:
                session = onnxruntime.InferenceSession(folder / name / "1/model.onnx")
                names = [o.name for o in session.get_outputs()]
                outputs = dict(zip(names, session.run(names, inputs), strict=True))
            else:
                model = runpy.run_path(str(folder / name / "1/model.py"))["TritonPythonModel"]()
                model.initialize({})
                (answer,) = model.execute([inputs])
                if answer.error:
                    return answer.error
                outputs = answer.tensors
            tensors |= {m["value"][0]: outputs[m["key"][0]] for m in step["output_map"]}
        return {o["name"][0]: tensors[o["name"][0]] for o in config["output"]}

    return run


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_the_ensemble_finds_what_the_detector_finds(packaged, served, tmp_path, resize):
    opened = packaged(ModelSpec((8, 16), ("Car", "Pedestrian"), resize=resize))
    write_repository(opened, tmp_path / "made")
    image = np.full((30, 50, 3), 255, np.uint8)
    found = served(tmp_path / "made", image)
    with Detector.open(opened.model_path("models/tiny.onnx")) as detector:
        wanted = detector.detect(Frame(image))
    assert len(wanted)
    np.testing.assert_array_equal(found["boxes"], wanted.boxes)
    np.testing.assert_array_equal(found["scores"], wanted.scores)
    np.testing.assert_array_equal(found["labels"], wanted.labels)


def test_an_image_without_pixels_is_an_error_of_the_request(packaged, served, tmp_path):
    write_repository(packaged(), tmp_path / "made")
    error = served(tmp_path / "made", np.zeros((0, 5, 3), np.uint8))
    assert str(error) == "image has the shape (0, 5, 3), wanted at least one pixel"


def test_each_model_of_the_ensemble_takes_what_is_wired_to_it(packaged, tmp_path):
    write_repository(packaged(), tmp_path / "made")
    for name in (PREPROCESS, POSTPROCESS):
        config = read_pbtxt((tmp_path / "made" / name / "config.pbtxt").read_text("utf-8"))
        assert (config["name"], config["backend"]) == ([name], ["python"])
    whole = read_pbtxt((tmp_path / "made" / DETECTOR / "config.pbtxt").read_text("utf-8"))
    assert whole["platform"] == ["ensemble"]
    assert whole["input"] == [{"name": ["image"], "data_type": ["TYPE_UINT8"], "dims": [-1, -1, 3]}]
    for step in whole["ensemble_scheduling"][0]["step"]:
        own = read_pbtxt(
            (tmp_path / "made" / step["model_name"][0] / "config.pbtxt").read_text("utf-8")
        )
        for ends, maps in (("input", "input_map"), ("output", "output_map")):
            assert [t["name"] for t in own[ends]] == [m["key"] for m in step[maps]]


def test_a_batch_of_several_images_has_no_ensemble(packaged, tmp_path):
    write_repository(packaged(batch=2), tmp_path / "made")
    assert {p.name for p in (tmp_path / "made").iterdir()} == {"README.md", MODEL}
    assert "--batch 1" in (tmp_path / "made/README.md").read_text(encoding="utf-8")
