"""The parts of a network by which people speak of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from edgedetr.graph.blocks import block_names
from edgedetr.graph.wiring import label

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Build = Callable[..., onnx.ModelProto]

SCOPES = [
    "/net/backbone/stem/conv",
    *(f"/net/backbone/stages.0/layers.{i}/conv{j}" for i in range(6) for j in range(2)),
    *(f"/net/encoder/blocks/blocks.{i}/proj" for i in range(3)),
    *(f"/net/decoder/layers.{i}/{part}" for i in range(2) for part in ("self_attn/q", "mlp/fc1")),
    *(f"/net/decoder/layers.{i}/{part}" for i in range(2) for part in ("self_attn/k", "mlp/fc2")),
    "/net/head/linear",
]
"""A small network's layers; more of them make the blocks wider."""


def chain(onnx_model: Build, names: Sequence[str], weights: Sequence[str] = ()) -> onnx.ModelProto:
    """Multiply by one matrix after the other, each followed by an operator in the scope around."""
    nodes: list[tuple[object, ...]] = []
    values = {w: np.eye(2) for w in dict.fromkeys(weights or ["w"])}
    tensor = "images"
    for i, name in enumerate(names):
        around = name.rsplit("/", 1)[0] if "/" in name else f"relu{i}"
        weight = weights[i] if weights else "w"
        nodes += [
            ("MatMul", f"{name}/MatMul" if "/" in name else name, [tensor, weight], f"m{i}", {}),
            ("Relu", f"{around}/Relu_{i}" if "/" in name else around, [f"m{i}"], f"r{i}", {}),
        ]
        tensor = f"r{i}"
    return onnx_model(nodes, values, inputs={"images": (2, 2)}, outputs=[tensor])


def test_scopes_are_cut_where_a_tenth_of_the_layers_lies(onnx_model: Build) -> None:
    names = [f"/net/backbone/stages.{s}/layers.{i}/conv" for s in range(4) for i in range(5)]
    names += [f"/net/encoder/aifi.{i}/proj" for i in range(20)]
    model = chain(onnx_model, names)
    assert len(set(block_names(model).values())) == 40
    names = [f"/net/neck/csp/conv{i}" for i in range(2)] + names[:18]
    found = block_names(chain(onnx_model, names))
    assert found["/net/neck/csp/conv1/MatMul"] == "neck"
    assert found["/net/backbone/stages.1/layers.2/conv/MatMul"] == "backbone/stages.1/layers.2"


def test_attention_is_a_block_and_what_has_no_layer_joins_the_one_before(onnx_model: Build) -> None:
    model = chain(onnx_model, SCOPES)
    found = block_names(model)
    assert list(found) == [label(node) for node in model.graph.node]
    assert found["/net/decoder/layers.0/self_attn/q/MatMul"] == "decoder/layers.0/self_attn"
    assert found["/net/decoder/layers.0/mlp/fc1/MatMul"] == "decoder/layers.0/mlp"
    assert found["/net/decoder/layers.0/mlp/Relu_17"] == "decoder/layers.0/mlp"
    assert found["/net/encoder/blocks/blocks.2/proj/MatMul"] == "encoder/blocks.2"
    assert found["/net/head/linear/MatMul"] == "head"


def test_names_of_weights_tell_where_layers_lie(onnx_model: Build) -> None:
    weights = [f"net.backbone.stages.{i}.conv.weight" for i in range(3)] + ["net.head.fc.weight"]
    found = block_names(chain(onnx_model, [f"n{i}" for i in range(4)], weights))
    assert list(found.values()) == [
        *(["backbone/stages.0"] * 2),
        *(["backbone/stages.1"] * 2),
        *(["backbone/stages.2"] * 2),
        *(["head"] * 2),
    ]


def test_names_of_weights_tell_what_a_list_belongs_to(onnx_model: Build) -> None:
    """Entries that were called one by one have labels without it."""
    names = [f"/net/encoder/layers.{i}/fc" for i in range(10)]
    names += [f"/layers.{i}/fc" for i in range(2)] + ["/layers.2/fc", "/head/fc"]
    weights = [f"net.encoder.layers.{i}.fc" for i in range(10)]
    weights += [f"net.decoder.layers.{i}.fc.weight" for i in range(2)] + ["onnx::MatMul_9", "x"]
    found = block_names(chain(onnx_model, names, weights))
    assert found["/net/encoder/layers.0/fc/MatMul"] == "net/encoder/layers.0"
    assert found["/layers.1/fc/MatMul"] == "decoder/layers.1"
    assert found["/layers.2/fc/MatMul"] == "layers.2"


def test_a_graph_without_names_is_cut_at_its_layers(onnx_model: Build) -> None:
    found = block_names(chain(onnx_model, [f"MatMul_{i}" for i in range(45)]))
    assert found["MatMul_0"] == found["relu1"] == "block_00"
    assert found["MatMul_44"] == "block_22"


def test_a_constant_belongs_to_the_first_that_reads_it(onnx_model: Build) -> None:
    model = onnx_model(
        [
            ("Identity", "copy", ["w"], "late", {}),
            ("MatMul", "/a/one/MatMul", ["images", "w"], "x", {}),
            ("MatMul", "/a/two/MatMul", ["x", "late"], "y", {}),
        ],
        {"w": np.eye(2)},
        inputs={"images": (2, 2)},
        outputs=["y"],
    )
    assert block_names(model) == {"/a/one/MatMul": "one", "/a/two/MatMul": "two", "copy": "two"}


def test_a_graph_without_layers_is_one_block(onnx_model: Build) -> None:
    model = onnx_model(
        [("Relu", "relu", ["images"], "y", {})], {}, inputs={"images": (2, 2)}, outputs=["y"]
    )
    assert block_names(model) == {"relu": "block_00"}


def test_a_model_trained_by_others_falls_into_parts_with_names(shared_data: Path) -> None:
    path = shared_data / "deimv2_femto_qr" / "deimv2_femto_416.onnx"
    if not path.is_file():
        pytest.skip(f"no {path}")
    found = list(dict.fromkeys(block_names(onnx.load(path)).values()))
    assert 10 <= len(found) <= 40
    assert found[0] == "backbone/stem"
    assert {"encoder/fpn_block", "decoder/decoder/layers.1/cross_attn"} <= set(found)
