"""Names of the traced graph say where a node belongs; what cannot be traced says why."""

from dataclasses import replace

import onnx
import pytest

pytest.importorskip("torch")

from edgedetr.distill.model import Architecture
from edgedetr.export.transforms.trace import trace
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec


@pytest.mark.slow
def test_node_names_say_where_a_node_belongs(exported):
    named = [n.name for n in onnx.load(exported[0]).graph.node if n.op_type != "Constant"]
    assert len(set(named)) == len(named)
    assert all(name.startswith("/network/") for name in named)
    for block in ("/backbone/", "/encoder/", "/decoder/"):
        assert sum(f"/network/model{block}" in name for name in named) > 50
    assert any("/decoder/layers.1/encoder_attn/" in name for name in named)


@pytest.mark.parametrize(
    ("input_hw", "message"),
    [
        ((1, 1), "the network reads 1x1 pixels; wanted 32 or more a side"),
        ((33, 70), "the network cannot run at 33x70 pixels: .*; train it with .* multiples of 32"),
    ],
)
def test_a_size_that_the_network_cannot_read_is_named(make_model, tmp_path, input_hw, message):
    model = make_model("d_fine", "edge-micro", spec=ModelSpec(input_hw, ("Car",)))
    with pytest.raises(ArtifactError, match=message):
        trace(model, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_a_foreign_network_that_cannot_run_says_so(make_model, tmp_path, monkeypatch):
    model = replace(make_model("d_fine", "edge-micro"), architecture=Architecture({}, 2))
    monkeypatch.setattr(type(model.network), "forward", fails)
    with pytest.raises(ArtifactError, match=r"cannot run at .*: k out of range; import it again"):
        trace(model, tmp_path / "m.onnx")


def fails(*_args, **_options):
    raise RuntimeError("k out of range\nin line 3")
