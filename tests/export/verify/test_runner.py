"""Opening models of any kind, with a spec for those that carry none."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedetr.export.verify.compare import Options, verify
from edgedetr.export.verify.limits import Gate
from edgedetr.export.verify.matching import Rule
from edgedetr.export.verify.runner import compared_with, graph_of, open_runner
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.spec import ModelSpec

WHITE = [np.full((20, 40, 3), 255, np.uint8)]


def test_a_file_of_another_kind_is_refused():
    with pytest.raises(UsageError, match=r"model\.pt: wanted a \.safetensors"):
        open_runner(Path("model.pt"))


def test_an_onnx_file_has_its_graph_and_stays_as_it_is(tiny_onnx):
    runner = open_runner(tiny_onnx())
    graph = graph_of(runner, traced=False)
    assert graph is not None
    assert any(node.name == "amplify" for node in graph.model.graph.node)
    assert compared_with(runner, runner) is runner


def test_a_checkpoint_has_a_graph_where_it_is_traced(checkpoint):
    runner = open_runner(checkpoint)
    assert runner.precision == "fp32"
    assert graph_of(runner, traced=False) is None
    traced = graph_of(runner, traced=True)
    assert traced is not None
    assert traced.precision == "fp32"


@pytest.fixture
def foreign(tiny_onnx, tmp_path):
    """A model without a spec, its spec as TOML and a folder of images."""
    model = tiny_onnx(store_spec=False).rename(tmp_path / "foreign.onnx")
    spec = tmp_path / "spec.toml"
    spec.write_text('input_hw = [8, 16]\nclass_names = ["Car", "Pedestrian"]\n')
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "white.png"), WHITE[0])
    return model, spec, images


def test_a_foreign_model_needs_a_spec(edgedetr, foreign, tmp_path):
    model, spec, images = foreign
    out = tmp_path / "v.json"
    arguments = ("verify", model, model, "--images", images, "--json", out)
    status, _, error = edgedetr(*arguments)
    assert status == 1
    assert "foreign.onnx holds no model spec" in error
    assert "give --spec SPEC.toml, drafted by edgedetr spec" in error
    assert edgedetr(*arguments, "--spec", spec)[0] == 0
    values = json.loads(out.read_text())
    assert (values["mean_score_drop"], values["max_score_drop"], values["min_iou"]) == (0, 0, 1)
    assert values["reference_precision"] == values["candidate_precision"] == "fp32"
    assert values["activations"]["scans"][0]["tensors"] == 6
    spec.write_text('input_hw = [8, 16]\nclass_names = ["Car", "Pedestrian"]\nlogits_name = "o"\n')
    assert "outputs logits, boxes, its spec wants o" in edgedetr(*arguments, "--spec", spec)[2]


def test_one_of_two_models_may_be_foreign(foreign, tiny_onnx):
    model, *_ = foreign
    own = tiny_onnx()
    options = Options(spec=ModelSpec((8, 16), ("Car", "Pedestrian")))
    assert verify(model, own, WHITE, Rule(), Gate(), options=options).passed
    other = Options(spec=ModelSpec((8, 16), ("Car", "Cyclist")))
    with pytest.raises(ArtifactError, match=r"has the classes Car, Cyclist, tiny.onnx Car, Pedes"):
        verify(model, own, WHITE, Rule(), Gate(), options=other)
