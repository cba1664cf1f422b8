"""Q/DQ on a whole detection transformer, exported from PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgedetr.calib.collect import collect
from edgedetr.calib.placement import FLOAT_SCOPES, QUERY_CHOICE
from edgedetr.distill.model import new_model
from edgedetr.export.transforms.quantize import quantize, quantized_share
from edgedetr.export.transforms.trace import trace
from edgedetr.graph.metadata import set_metadata
from edgedetr.graph.wiring import Wiring, label
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.slow

SPEC = ModelSpec((64, 96), ("Car", "Pedestrian", "Cyclist"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("d_fine")


@pytest.fixture(scope="module")
def model(folder: Path) -> onnx.ModelProto:
    """The smallest D-FINE with random weights, whose features neither vanish nor explode."""
    path = folder / "d_fine.onnx"
    torch.manual_seed(0)
    traced = new_model("d_fine", "edge-tiny", SPEC)
    traced.network.eval()
    for name, buffer in traced.network.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(0.015)
    trace(traced, path)
    loaded = onnx.load(path)
    set_metadata(loaded, SPEC, ())
    onnx.save(loaded, path)
    return loaded


@pytest.fixture(scope="module")
def quantized(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    cv2 = pytest.importorskip("cv2")
    images = [folder / f"{i}.png" for i in range(4)]
    rng = np.random.default_rng(0)
    for path in images:
        blobs = cv2.resize(rng.integers(0, 256, (4, 6, 3), np.uint8), (96, 64))
        cv2.imwrite(str(path), blobs)
    return quantize(model, collect(folder / "d_fine.onnx", images, method="mse"))


def test_only_backbone_and_encoder_convolutions_change(
    model: onnx.ModelProto, quantized: onnx.ModelProto
) -> None:
    wiring = Wiring(model.graph)
    late = {label(wiring.nodes[i]) for i in wiring.downstream(QUERY_CHOICE)}
    after = {label(n): n for n in quantized.graph.node}
    changed = {label(n) for n in model.graph.node if n != after.get(label(n), n)}
    convolutions = {label(n) for n in model.graph.node if n.op_type == "Conv"}
    assert {after[name].op_type for name in changed} == {"Conv", "Concat"}
    assert changed.isdisjoint(late)
    assert not any(FLOAT_SCOPES.search(name) for name in changed)
    few = {label(n) for n in wiring.nodes if n.op_type == "Conv" and _channels(n, wiring) % 8}
    assert convolutions - changed == {*few, *(name for name in convolutions if "stem1" in name)}
    assert sum("TopK" in name for name in late) >= 2


def _channels(node: onnx.NodeProto, wiring: Wiring) -> int:
    """Return the smaller number of channels of a convolution; 1 where each has its own filter."""
    out, into = wiring.constants[node.input[1]].dims[:2]
    return int(min(out, into))


def test_most_of_the_work_is_in_int8(quantized: onnx.ModelProto) -> None:
    share = quantized_share(quantized)
    assert share.nodes == 65
    assert share.convolutions == 77
    assert 0.45 < share.int8_macs / share.macs < 1


@pytest.mark.parametrize("exact", [True, False])
def test_it_runs_and_the_encoder_answers_nearly_the_same(
    model: onnx.ModelProto, quantized: onnx.ModelProto, *, exact: bool
) -> None:
    images = np.random.default_rng(5).random((1, 3, *SPEC.input_hw), np.float32)
    name = [n.output[0] for n in model.graph.node if "pan_blocks.1/conv4" in n.name][-1]
    reference, answer = (_run(m, images, name, exact=exact) for m in (model, quantized))
    for found, wanted in zip(answer, reference, strict=True):
        assert found.shape == wanted.shape
        assert np.isfinite(found).all()
    error = np.linalg.norm(answer[-1] - reference[-1]) / np.linalg.norm(reference[-1])
    assert 0 < error < 0.15


def _run(
    model: onnx.ModelProto, images: NDArray[np.float32], extra: str, *, exact: bool
) -> list[NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    traced = onnx.ModelProto()
    traced.CopyFrom(model)
    traced.graph.output.append(onnx.ValueInfoProto(name=extra))
    session = onnxruntime.InferenceSession(traced.SerializeToString(), options)
    return [np.asarray(v) for v in session.run(None, {"images": images})]
