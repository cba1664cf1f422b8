"""Graphs as others export them, through every command that types them and builds engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.export.verify.runners.onnx import OnnxRunner
from edgedetr.graph.model_file import load_onnx
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Build = Callable[..., onnx.ModelProto]

SPEC = ModelSpec((16, 16), ("Car",))


@pytest.fixture
def plain(onnx_model: Build) -> Callable[..., onnx.ModelProto]:
    """Build two convolutions, a norm over several nodes and two heads; four queries."""

    def build(batch: int = 1, opset: int = 16) -> onnx.ModelProto:
        rng = np.random.default_rng(0)
        return onnx_model(
            [
                ("Conv", "stem", ["images", "w1"], "a", {"strides": [4, 4]}),
                ("Relu", "act", ["a"], "r", {}),
                ("Conv", "body", ["r", "w2"], "b", {"strides": [2, 2]}),
                ("Reshape", "tokens", ["b", "shape"], "t", {}),
                ("Transpose", "rows", ["t"], "x", {"perm": [0, 2, 1]}),
                ("ReduceMean", "mean", ["x"], "m", {"axes": [-1]}),
                ("Sub", "centre", ["x", "m"], "c", {}),
                ("Pow", "square", ["c", "two"], "s", {}),
                ("ReduceMean", "variance", ["s"], "v", {"axes": [-1]}),
                ("Add", "guard", ["v", "eps"], "g", {}),
                ("Sqrt", "root", ["g"], "d", {}),
                ("Div", "norm", ["c", "d"], "n", {}),
                ("MatMul", "class_head", ["n", "to_logits"], "logits", {}),
                ("MatMul", "box_head", ["n", "to_deltas"], "deltas", {}),
                ("Sigmoid", "to_boxes", ["deltas"], "boxes", {}),
            ],
            {
                "w1": rng.normal(size=(8, 3, 4, 4)) / 7,
                "w2": rng.normal(size=(8, 8, 2, 2)) / 6,
                "shape": np.array([batch, 8, 4]),
                "two": 2.0,
                "eps": 1e-5,
                "to_logits": rng.normal(size=(8, 1)),
                "to_deltas": rng.normal(size=(8, 4)),
            },
            inputs={"images": (batch, 3, 16, 16)},
            outputs=["logits", "boxes"],
            spec=SPEC,
            opset=opset,
        )

    return build


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    values = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), np.uint8)
    for index, image in enumerate(values):
        cv2.imwrite(str(folder / f"{index}.png"), image)
    return folder


def typed_by_every_command(path: Path, images: Path, edgedetr: Any) -> list[Path]:
    """Write FP16 and INT8 with either rest."""
    stats = path.with_suffix(".json")
    made = [path.with_suffix(s) for s in (".fp16.onnx", ".int8.onnx", ".mixed.int8.onnx")]
    for command in (
        ("export", "fp16", path, "-o", made[0]),
        ("calib", "collect", path, "--images", images, "-o", stats),
        ("export", "qdq", path, stats, "--rest", "fp32", "-o", made[1]),
        ("export", "qdq", path, stats, "-o", made[2]),
    ):
        status, _, err = edgedetr(*command)
        assert status == 0, err
    return made


def assert_alike(path: Path, others: list[Path]) -> None:
    """Hold the answers of typed files to those of their model: INT8 has 127 steps."""
    batch = OnnxRunner(path).batch_sizes[0]
    frames = np.random.default_rng(2).uniform(size=(batch, 3, 16, 16)).astype(np.float32)
    wanted = OnnxRunner(path)(frames)
    for other in others:
        for found, expected in zip(OnnxRunner(other)(frames), wanted, strict=True):
            limit = 0.02 if "fp16" in other.name else 0.3
            np.testing.assert_allclose(found, expected, atol=limit, err_msg=other.name)


def constants_as_inputs(model: onnx.ModelProto) -> None:
    """List every constant among the inputs, which the third version of the format wants."""
    for tensor in model.graph.initializer:
        listed = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(listed)
    model.ir_version = 3


@pytest.mark.parametrize(
    ("batch", "changes"), [(1, None), (8, None), (1, constants_as_inputs), (8, constants_as_inputs)]
)
def test_typed_files_of_good_graphs_answer_as_their_models(
    plain: Build,
    images: Path,
    tmp_path: Path,
    edgedetr: Any,
    batch: int,
    changes: Callable[[onnx.ModelProto], None] | None,
) -> None:
    model, path = plain(batch), tmp_path / "m.onnx"
    if changes is not None:
        changes(model)
    onnx.save(model, path)
    assert_alike(path, typed_by_every_command(path, images, edgedetr))


def with_branch(model: onnx.ModelProto) -> None:
    """Negate the logits of bright images."""
    graph = model.graph
    (head,) = (n for n in graph.node if n.output[0] == "logits")
    head.output[0] = "raw"
    branches = [
        helper.make_graph(
            [helper.make_node(op, ["raw"], [f"{op}_out"])],
            op,
            [],
            [helper.make_tensor_value_info(f"{op}_out", TensorProto.FLOAT, [1, 4, 1])],
        )
        for op in ("Neg", "Identity")
    ]
    graph.node.append(helper.make_node("ReduceMax", ["images"], ["most"], keepdims=0))
    graph.node.append(helper.make_node("Greater", ["most", "two"], ["bright"]))
    then, otherwise = branches
    graph.node.append(
        helper.make_node(
            "If", ["bright"], ["logits"], "/if", then_branch=then, else_branch=otherwise
        )
    )


@pytest.mark.parametrize("changes", [constants_as_inputs, with_branch, None])
def test_good_graphs_become_engines(
    plain: Build,
    tmp_path: Path,
    edgedetr: Any,
    changes: Callable[[onnx.ModelProto], None] | None,
) -> None:
    pytest.importorskip("tensorrt_rtx")
    model, path = plain(), tmp_path / "m.onnx"
    if changes is not None:
        changes(model)
    onnx.save(model, path)
    status, out, err = edgedetr("export", "engine", path, "--backend", "tensorrt_rtx")
    note = "shapes that depend on the data" if changes is with_branch else ""
    assert status == 0, err
    assert note in err
    assert bool(note) == bool(err)
    assert "4 FP32 of 4 convolutions and matrix products" in out


def test_a_norm_of_several_nodes_in_fp16_is_no_engine(
    plain: Build, tmp_path: Path, edgedetr: Any
) -> None:
    pytest.importorskip("tensorrt_rtx")
    model, path = plain(), tmp_path / "m.onnx"
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    (stem,) = (n for n in model.graph.node if n.name == "stem")
    stem.input[0] = "narrow"
    half, full = TensorProto.FLOAT16, TensorProto.FLOAT
    model.graph.node.insert(0, helper.make_node("Cast", ["images"], ["narrow"], to=half))
    for name in ("logits", "boxes"):
        (node,) = (n for n in model.graph.node if n.output[0] == name)
        node.output[0] = f"{name}_half"
        model.graph.node.append(helper.make_node("Cast", [f"{name}_half"], [name], to=full))
    onnx.save(model, path)
    status, _, err = edgedetr("export", "engine", path, "--backend", "tensorrt_rtx")
    assert status == 1
    assert "mean: a LayerNorm of several nodes" in err
    assert "(found: square (Pow) is FP16)" in err


@pytest.mark.parametrize("lengths", [True, False])
def test_weights_of_which_bytes_are_missing_are_refused(
    plain: Build, tmp_path: Path, lengths: bool
) -> None:
    path, weights = tmp_path / "m.onnx", tmp_path / "w.bin"
    onnx.save(plain(), path, save_as_external_data=True, location=weights.name, size_threshold=0)
    assert load_onnx(path).graph.name == "net"
    if not lengths:  # a file need not say how many bytes are a tensor's
        model = onnx.load(path, load_external_data=False)
        last = model.graph.initializer[-1]
        kept = [e for e in last.external_data if e.key != "length"]
        copies = [type(e).FromString(e.SerializeToString()) for e in kept]
        del last.external_data[:]
        last.external_data.extend(copies)
        path.write_bytes(model.SerializeToString())
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ArtifactError, match=r"m\.onnx: not a whole ONNX model: .*to_deltas"):
        load_onnx(path)
