"""Blocks of one graph run on what flows in another: which one departs?"""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgedetr.calib.collect import collect
from edgedetr.export.transforms.textures import textured_frames
from edgedetr.export.verify.compare import Options, verify
from edgedetr.export.verify.limits import Gate
from edgedetr.export.verify.matching import Rule
from edgedetr.export.verify.taps import FED, Tensor, activations, cut_into_blocks, parts, tapped
from edgedetr.graph.blocks import block_names
from edgedetr.graph.wiring import label

FRAMES = textured_frames((64, 96), 2)
BEST = Rule(threshold=0.0, top=20)


@pytest.fixture
def chain(onnx_model):
    """Three blocks in a row, the second of which chooses the two largest of four numbers."""
    return onnx_model(
        [
            ("MatMul", "/net/first/MatMul", ["x", "w"], "a", {}),
            ("TopK", "/net/second/TopK", ["a", "two"], ("top", "which"), {}),
            ("GatherElements", "/net/second/Gather", ["a", "which"], "b", {"axis": 1}),
            ("MatMul", "/net/third/MatMul", ["b", "v"], "c", {}),
            ("Add", "/net/third/Add", ["c", "bias"], "y", {}),
        ],
        {
            "w": np.eye(4),
            "v": np.ones((2, 2)),
            "two": np.array([2]),
            "bias": np.array([[1.0, 2.0]]),
        },
        inputs={"x": (1, 4)},
        outputs=("y",),
    )


NAMED = {
    "/net/first/MatMul": "first",
    "/net/second/TopK": "second",
    "/net/second/Gather": "second",
    "/net/third/MatMul": "third",
    "/net/third/Add": "third",
}


def test_activations_depend_on_the_input_and_know_their_size(chain):
    found = activations(chain)
    assert list(found) == ["a", "top", "which", "b", "c", "y"]
    assert found["a"] == Tensor("a", "/net/first/MatMul", onnx.TensorProto.FLOAT, 16)
    assert found["which"].size_bytes == 16


def test_parts_hold_no_more_than_they_may():
    tensors = [Tensor(name, "", 1, 40) for name in "abcde"]
    assert list(parts(tensors, 100)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(parts(tensors, 1)) == [["a"], ["b"], ["c"], ["d"], ["e"]]
    assert list(parts([], 1)) == []


def test_a_graph_runs_only_as_far_as_it_must(chain):
    x = np.array([[1, 2, 3, 4]], np.float32)
    (values,) = tapped(chain, ["b"], [{"x": x}], "chain")
    np.testing.assert_array_equal(values["b"], [[4, 3]])
    chain.graph.node[3].input[1] = "nothing"  # what comes after is not even looked at
    (values,) = tapped(chain, ["a"], [{"x": x}], "chain")
    np.testing.assert_array_equal(values["a"], x)


def test_every_block_reads_what_it_is_given(chain):
    cut = cut_into_blocks(chain, NAMED, activations(chain))
    assert cut.outputs == {"first": ["a"], "second": ["which", "b"], "third": ["y"]}
    assert cut.fed == {"first": [], "second": ["a", "which"], "third": ["b"]}
    given: dict[str, np.ndarray] = {
        "a" + FED: np.array([[1, 2, 3, 4]], np.float32),
        "which" + FED: np.array([[0, 1]], np.int64),
        "b" + FED: np.array([[1, 1]], np.float32),
    }
    (values,) = tapped(cut.model, ["b", "y"], [given], "chain")
    np.testing.assert_array_equal(values["b"], [[1, 2]])  # the choice was given as well
    np.testing.assert_array_equal(values["y"], [[3, 4]])


def test_what_only_one_graph_has_flows_on(chain):
    """A tensor that the other graph lacks is not cut, and its node belongs to its reader."""
    other = activations(chain)
    extra = onnx.helper.make_node("Relu", ["b"], ["b2"], "extra")
    chain.graph.node.insert(3, extra)
    chain.graph.node[4].input[0] = "b2"
    cut = cut_into_blocks(chain, NAMED, other)
    assert cut.block_of["extra"] == "third"
    assert cut.fed["third"] == ["b"]


def inside(report):
    assert report.activations is not None
    return report.activations


def changed(path, folder, change):
    """Save a model after ``change(model)``; returns its path and what that returned."""
    model = onnx.load(path)
    told = change(model)
    onnx.save(model, folder / "changed.onnx")
    return folder / "changed.onnx", told


def weights(model, tensor):
    return next(t for t in model.graph.initializer if t.name == tensor)


def rewrite(tensor, values):
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def node_of(model, scope, kind):
    stored = {t.name for t in model.graph.initializer}
    return next(
        n
        for n in model.graph.node
        if scope in label(n) and n.op_type == kind and stored.intersection(n.input)
    )


def swap_channels(model):
    """Read BGR where RGB was read."""
    node = node_of(model, "/backbone/", "Conv")
    tensor = weights(model, node.input[1])
    rewrite(tensor, numpy_helper.to_array(tensor)[:, ::-1])
    return label(node)


def drop_bias(model):
    node = next(
        n
        for n in model.graph.node
        if "/encoder/fpn" in label(n) and n.op_type == "Conv" and len(n.input) == 3
    )
    tensor = weights(model, node.input[2])
    rewrite(tensor, 0 * numpy_helper.to_array(tensor))
    return label(node)


def scale_weights(model):
    node = node_of(model, "/decoder/layers.0/mlp/", "MatMul")
    stored = {t.name for t in model.graph.initializer}
    tensor = weights(model, next(name for name in node.input if name in stored))
    rewrite(tensor, numpy_helper.to_array(tensor) * np.float32(1.05))
    return label(node)


@pytest.mark.slow
@pytest.mark.parametrize("change", [swap_channels, drop_bias, scale_weights])
def test_the_block_that_was_changed_is_named(exported, tmp_path, change):
    good = exported[0]
    bad, node = changed(good, tmp_path, change)
    report = verify(good, bad, FRAMES, BEST, Gate())
    assert report.first_diverging == block_names(onnx.load(good))[node]
    assert [b.block for b in inside(report).blocks if b.diverges] == [report.first_diverging]
    assert f"first block that departs: {report.first_diverging} (fp32)" in report.table()


@pytest.mark.slow
def test_no_block_of_an_equal_model_departs(exported):
    report = verify(exported[0], exported[0], FRAMES, BEST, Gate())
    assert report.first_diverging == ""
    assert len(inside(report).blocks) > 10
    assert {b.own.relative for b in inside(report).blocks} == {0}
    assert {b.carried for b in inside(report).blocks} == {0}


@pytest.fixture(scope="module")
def stats(exported, tmp_path_factory):
    """Ranges of the exported model."""
    import cv2

    folder = tmp_path_factory.mktemp("frames")
    paths = [folder / f"{i}.png" for i in range(len(FRAMES))]
    for path, frame in zip(paths, FRAMES, strict=True):
        cv2.imwrite(str(path), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return collect(exported[0], paths)


def quantized(exported, stats, folder):
    from edgedetr.export.transforms.quantize import quantize
    from edgedetr.graph.metadata import set_metadata

    model = quantize(onnx.load(exported[0]), stats)
    set_metadata(model, stats.spec, [])
    onnx.save(model, folder / "int8.onnx")
    return folder / "int8.onnx"


@pytest.mark.slow
def test_int8_explains_its_own_rounding_and_no_wrong_scale(exported, stats, tmp_path):
    int8 = quantized(exported, stats, tmp_path)
    report = verify(exported[0], int8, FRAMES, BEST, Gate())
    assert report.precisions == ("fp32", "int8")
    assert report.first_diverging == ""
    assert {b.precision for b in inside(report).blocks} == {"fp32", "int8"}

    def clip(model):
        node = next(
            n
            for n in model.graph.node
            if n.op_type == "QuantizeLinear" and "pan_blocks.0/csp_rep1" in n.input[0]
        )
        tensor = weights(model, node.input[1])
        rewrite(tensor, numpy_helper.to_array(tensor) * np.float32(0.1))
        return node.input[0]

    bad, tensor = changed(int8, tmp_path, clip)
    report = verify(exported[0], bad, FRAMES, BEST, Gate())
    reader = next(n for n in onnx.load(exported[0]).graph.node if tensor in n.input)
    assert report.first_diverging == block_names(onnx.load(exported[0]))[label(reader)]


@pytest.mark.slow
def test_a_checkpoint_is_traced_when_asked(checkpoint, exported, tmp_path):
    bad, node = changed(exported[0], tmp_path, scale_weights)
    answers = verify(checkpoint, bad, FRAMES, BEST, Gate())
    assert answers.first_diverging == ""
    assert "student.safetensors was not read as a graph" in inside(answers).note
    report = verify(checkpoint, bad, FRAMES, BEST, Gate(), options=Options(traced=True))
    assert report.first_diverging == block_names(onnx.load(exported[0]))[node]


def test_graphs_without_common_names_are_not_compared(tiny_onnx, tmp_path):
    a = tiny_onnx().rename(tmp_path / "a.onnx")

    def rename(model):
        for node in model.graph.node:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    if name in {"all", "mean", "amplified", "still"}:
                        names[i] = f"other_{name}"

    b, _ = changed(a, tmp_path, rename)
    white = [np.full((20, 40, 3), 255, np.uint8)]
    report = verify(a, b, white, Rule(), Gate())
    assert report.passed
    assert not inside(report).blocks
    assert inside(report).note == (
        "the blocks were not compared: the graphs share 2 of 6 and 6 tensor names"
    )
