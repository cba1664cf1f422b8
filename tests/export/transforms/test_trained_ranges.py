"""Points of an INT8 graph that no module of the network stands for, and unknown methods."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgedetr.calib.placement import calibration_tensors
from edgedetr.calib.stats import CalibrationStats, TensorRange
from edgedetr.distill.networks.fake_quantization import Quantization
from edgedetr.export.transforms.quantize import quantize
from edgedetr.export.transforms.trained_ranges import (
    Int8Node,
    _method,
    int8_nodes,
    layers_of,
)
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.spec import ModelSpec

torch = pytest.importorskip("torch")

SPEC = ModelSpec((4, 4), ("Car",), logits_name="y", boxes_name="y")


@pytest.mark.usefixtures("few_channels")
def test_what_the_simulation_does_not_cover_is_named(onnx_model):
    """The float Relu reads a Concat whose parts are rounded for the convolution beside it."""
    weight = np.array([[1.0, 0.0], [0.0, 1.0]]).reshape(2, 2, 1, 1)
    model = onnx_model(
        [
            ("Conv", "stem", ["images", "w"], "x", {}),
            ("Concat", "join", ["x", "x"], "joined", {"axis": 1}),
            ("Conv", "after", ["joined", "w4"], "y", {}),
            ("Relu", "float", ["joined"], "z", {}),
        ],
        {"w": weight, "w4": np.ones((2, 4, 1, 1))},
        inputs={"images": (1, 2, 4, 4)},
        outputs=["y", "z"],
    )
    ranges = tuple(TensorRange(name, 1.0, 1.0) for name in calibration_tensors(model))
    stats = CalibrationStats("", "", SPEC, "max", 100.0, 1, "", ranges)
    with pytest.raises(UsageError, match="does not cover that join reads x rounded"):
        int8_nodes(model, quantize(model, stats))


def test_a_layer_that_is_called_twice_is_named():
    conv = torch.nn.Conv2d(3, 3, 1)
    twin = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.Conv2d(3, 3, 1))
    twin[1].load_state_dict(twin[0].state_dict())
    whole = torch.nn.ModuleDict({"conv": conv, "twin": twin})
    model: Any = SimpleNamespace(
        family="f",
        preset="p",
        spec=SPEC,
        network=whole,
        predict=lambda x: (conv(conv(x)), twin(x)),
    )
    for weight, label, reason in (
        (conv.weight, "/network/conv/Conv_1", r"its module conv is called 2 times"),
        (twin[0].weight, "/network/other/Conv", r"0 modules have its weights and name"),
        (conv.weight + 1, "/network/conv/Conv", r"0 modules have its weights and name"),
    ):
        node = Int8Node(label, weight.detach().numpy(), ("x",), 0.1)
        with pytest.raises(UsageError, match=f"not cover {label} of f/p: {reason}; keep it float"):
            layers_of(model, [node])
    node = Int8Node("/network/twin/twin.1/Conv", twin[0].weight.detach().numpy(), ("x",), 0.1)
    assert [layer.path for layer in layers_of(model, [node])] == ["twin.1"]


def ranges_of(method):
    return Quantization((), "", "", method, 99.99, 4, "0" * 64)


def test_a_method_of_calibration_is_taken_over():
    assert _method(ranges_of("entropy")) == "entropy"


def test_a_method_that_calibration_does_not_have_is_refused():
    with pytest.raises(ArtifactError, match=r"from method 'median'; wanted one of mse, percentile"):
        _method(ranges_of("median"))
