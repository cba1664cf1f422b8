"""The simulation of INT8 in torch rounds where the exported graph does, and answers as it does."""

from __future__ import annotations

import copy
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgedetr.calib.placement import calibration_tensors
from edgedetr.calib.stats import CalibrationStats, TensorRange
from edgedetr.export.qat import calibrated
from edgedetr.export.to_onnx import export_onnx
from edgedetr.export.to_qdq import export_qdq
from edgedetr.export.transforms.quantize import quantize
from edgedetr.export.transforms.stored_ranges import RANGES_KEY
from edgedetr.export.transforms.textures import textured_frames
from edgedetr.export.transforms.trained_ranges import (
    int8_nodes,
    layers_of,
    trained_ranges,
)
from edgedetr.export.verify.compare import verify
from edgedetr.export.verify.limits import Gate
from edgedetr.export.verify.matching import Rule
from edgedetr.export.verify.runner import open_runner
from edgedetr.export.verify.runners.torch import TorchRunner
from edgedetr.graph.macs import count_nodes
from edgedetr.graph.model_file import load_onnx
from edgedetr.graph.wiring import label
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.plugins import names
from edgedetr.runtime.preprocess import Preprocessor

torch = pytest.importorskip("torch")

from edgedetr.distill.networks import fake_quantization as simulation  # noqa: E402
from edgedetr.distill.networks.fake_quantization import (  # noqa: E402
    Quantization,
    QuantizedLayer,
    fake_quantized,
    learn_steps,
    learnt_steps,
    simulated,
)
from edgedetr.distill.networks.learnt_steps import GAIN  # noqa: E402
from edgedetr.distill.networks.reparameterize import reparameterize  # noqa: E402
from edgedetr.distill.weights.checkpoint import load_model, save_model  # noqa: E402

ALL = names("edgedetr.distill.detectors")


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def network_input(model, frame):
    images = np.zeros((1, 3, *model.spec.input_hw), np.float32)
    Preprocessor(model.spec)(frame, images[0])
    return images


def values_of(model, tensors, images):
    """Run a graph exactly and return some of its tensors by name."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    del tapped.graph.output[:]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    return dict(zip(tensors, session(tapped).run(None, {"images": images}), strict=True))


def measured_stats(graph, model, images):
    tensors = calibration_tensors(graph)
    amax = {k: float(np.abs(v).max()) for k, v in values_of(graph, tensors, images).items()}
    ranges = tuple(TensorRange(k, 0.7 * v, v) for k, v in amax.items())
    return CalibrationStats("", "", model.spec, "max", 100.0, 1, "", ranges)


def quantization_of(nodes, layers):
    steps = [
        QuantizedLayer(layer.path, layer.norm, node.step, node.skip_step)
        for node, layer in zip(nodes, layers, strict=True)
    ]
    return Quantization(tuple(steps), "", "", "max", 100.0, 1, "")


class Follower:
    """Rounds what a graph rounds, in the place of `fake_quantized`, and notes how alike they are.

    Two sums of floats differ by their order, and some value lies so near to the border between two
    steps that it falls on either side. To compare every point, each is given the graph's values.
    """

    def __init__(self, nodes, values):
        self.left = Counter((n.inputs[0], n.step) for n in nodes)
        self.left.update((n.skip, n.skip_step) for n in nodes if n.skip)
        self.joined = {n.inputs[0] for n in nodes if len(n.inputs) > 1}
        self.values = {name: torch.from_numpy(values[name]) for name, _ in self.left}
        self.worst_steps = 0.0

    def __call__(self, x, step):
        found = []
        for name, own in self.left:
            value = padded_to(x, self.values[name])
            if own == step and value is not None:
                seen = self._seen(name, x, step, value)
                found.append((float((seen - value).abs().max()) / step, name, value))
        assert found, f"the graph does not round {tuple(x.shape)} to steps of {step}"
        apart, name, value = min(found, key=lambda item: item[:2])
        self.worst_steps = max(self.worst_steps, apart)
        self.left -= Counter([(name, step)])
        return fake_quantized(value, step)

    def _seen(self, name, x, step, wanted):
        """Round beforehand what a Concat joins, as its parts are in the graph."""
        if name not in self.joined:
            return x
        on_border = (x / step - (x / step).floor() - 0.5).abs() < 1e-3
        return torch.where(on_border, wanted, fake_quantized(x, step))


def padded_to(x, value):
    """Pad a tensor at the end as `x` is, where the graph leaves that to the convolution."""
    missing = [a - b for a, b in zip(x.shape, value.shape, strict=False)]
    if x.ndim != value.ndim or any(missing[:-2]) or not set(missing[-2:]) <= {0, 1}:
        return None
    return torch.nn.functional.pad(value, (0, missing[-1], 0, missing[-2]))


def follow(model, quantization, quantized, nodes, images, monkeypatch):
    """Simulate a network beside its graph; return the follower and both answers."""
    tensors = dict.fromkeys([*(n.inputs[0] for n in nodes), *(n.skip for n in nodes if n.skip)])
    outputs = [o.name for o in quantized.graph.output]
    values = values_of(quantized, [*tensors, *outputs], images)
    follower = Follower(nodes, values)
    monkeypatch.setattr(simulation, "fake_quantized", follower)
    monkeypatch.setattr(simulation, "rounded", lambda x, step: follower(x, float(step)))
    with torch.inference_mode(), simulated(model.network, quantization):
        answer = model.predict(torch.from_numpy(images))
    return follower, [a.numpy() for a in answer], [values[name] for name in outputs]


@pytest.mark.slow
@pytest.mark.parametrize("family", ALL)
def test_every_point_of_the_graph_is_simulated_and_no_other(family, family_files, monkeypatch):
    files = family_files(family)
    model, graph = copy.deepcopy(files.model), load_onnx(files.traced)
    reparameterize(model.network)
    images = network_input(model, textured_frames(model.spec.input_hw, 1)[0])
    quantized = quantize(graph, measured_stats(graph, model, images))
    nodes = int8_nodes(graph, quantized)
    layers = layers_of(model, nodes)
    for node, layer in zip(nodes, layers, strict=True):
        np.testing.assert_array_equal(node.weight, layer.weight.numpy())
    follower, found, wanted = follow(
        model, quantization_of(nodes, layers), quantized, nodes, images, monkeypatch
    )
    assert len(nodes) >= 15
    assert not follower.left
    assert follower.worst_steps < 1e-3
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(np.sort(a, 1), np.sort(b, 1), atol=2e-3)


def quantization_in(checkpoint):
    found = load_model(checkpoint).quantization
    assert found is not None
    return found


@pytest.fixture(scope="session")
def trained(settled_model, tmp_path_factory):
    """A checkpoint with a quantization, its ONNX file and its INT8 file."""
    folder = tmp_path_factory.mktemp("trained")
    model = settled_model()
    reparameterize(model.network)
    frames = textured_frames(model.spec.input_hw, 3)
    model = replace(model, quantization=calibrated(model, frames, r"stem1|mlp"))
    return written(model, folder)


def written(model, folder):
    paths = [folder / f"student.{suffix}" for suffix in ("safetensors", "onnx", "int8.onnx")]
    save_model(paths[0], model, command="a test")
    export_onnx(paths[0], paths[1])
    export_qdq(paths[1], None, paths[2], rest="fp32")
    return paths


@pytest.fixture(scope="session")
def learnt(trained, tmp_path_factory):
    """The same with steps that training has moved, by up to a fifth."""
    model = load_model(trained[0])
    quantization = replace(quantization_in(trained[0]), is_learnt=True)
    learn_steps(model.network, quantization)
    steps = learnt_steps(model.network)
    assert steps is not None
    torch.manual_seed(0)
    with torch.no_grad():
        steps.activations.uniform_(-0.2 / GAIN, 0.2 / GAIN)
        steps.weights.uniform_(-0.2 / GAIN, 0.2 / GAIN)
    return written(replace(model, quantization=quantization), tmp_path_factory.mktemp("learnt"))


@pytest.mark.slow
def test_the_steps_of_the_training_are_those_of_the_export(trained):
    checkpoint, path, int8 = trained
    quantization = quantization_in(checkpoint)
    nodes = int8_nodes(load_onnx(path), load_onnx(int8))
    assert [(n.step, n.skip_step) for n in nodes] == [
        (layer.input_step, layer.skip_step) for layer in quantization.layers
    ]
    assert quantization.frames == 3
    kinds = Counter(n.weight.ndim for n in nodes)
    assert kinds[2] == 6  # two linear layers of the encoder, two of each decoder layer
    rounded = {t for n in nodes for t in (*n.inputs, n.skip) if t}
    assert count_nodes(load_onnx(int8))["QuantizeLinear"] == len(rounded)
    assert "images" in rounded


@pytest.mark.slow
def test_the_steps_are_the_same_where_the_rest_of_the_export_is_fp16(trained, tmp_path):
    _, path, int8 = trained
    export_qdq(path, None, tmp_path / "half.onnx", rest="fp16")
    steps, half = (
        [(n.inputs, n.step, n.skip, n.skip_step) for n in int8_nodes(load_onnx(path), load_onnx(p))]
        for p in (int8, tmp_path / "half.onnx")
    )
    assert steps == half


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["trained", "learnt"])
def test_the_export_answers_as_the_simulation(kind, request, monkeypatch):
    checkpoint, path, int8 = request.getfixturevalue(kind)
    model = load_model(checkpoint)
    graph, quantized = load_onnx(path), load_onnx(int8)
    nodes = int8_nodes(graph, quantized)
    tokens = next(n.output[0] for n in graph.graph.node if n.name == "/network/model/Concat_3")
    for frame in textured_frames(model.spec.input_hw, 3):
        images = network_input(model, frame)
        with monkeypatch.context() as patched:
            follower, found, wanted = follow(
                model, model.quantization, quantized, nodes, images, patched
            )
        assert not follower.left
        assert follower.worst_steps < 1e-3
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(np.sort(a, 1), np.sort(b, 1), atol=2e-3)
        with torch.inference_mode(), simulated(model.network, model.quantization):
            alone = model.encode(torch.from_numpy(images)).tensors()[0].numpy()
        exact = values_of(quantized, [tokens], images)[tokens]
        plain = values_of(graph, [tokens], images)[tokens]
        assert np.abs(alone - exact).mean() < 0.7 * np.abs(plain - exact).mean()


@pytest.mark.slow
def test_learnt_steps_are_in_the_checkpoint_and_the_export(trained, learnt):
    """Each pair has the step of its range, and each layer's weights theirs."""
    checkpoint, path, int8 = learnt
    steps = learnt_steps(load_model(checkpoint).network)
    assert steps is not None
    of_ranges, of_weights = steps.of_activations(), steps.of_weights()
    graph = load_onnx(int8)
    nodes, before = int8_nodes(load_onnx(path), graph), int8_nodes(*map(load_onnx, trained[1:]))
    layers = quantization_in(checkpoint).layers
    constants = {t.name: t for t in graph.graph.initializer}
    makers = {n.output[0]: n for n in graph.graph.node}
    by_name = {label(n): n for n in graph.graph.node}
    for node, old, layer, weights in zip(nodes, before, layers, of_weights, strict=True):
        assert node.step == pytest.approx(of_ranges[layer.input_range].item(), rel=1e-6)
        assert node.step != old.step
        scales = makers[by_name[node.label].input[1]].input[1]
        found = numpy_helper.to_array(constants[scales])
        np.testing.assert_allclose(found, weights.detach().numpy(), rtol=1e-6)


@pytest.mark.slow
def test_a_trained_model_is_quantized_where_it_was_trained_to_be(trained, edgedetr, tmp_path):
    _, path, int8 = trained
    status, out, _ = edgedetr(
        "export", "qdq", path, "--rest", "fp32", "-o", tmp_path / "again.onnx"
    )
    assert status == 0
    assert "INT8" in out
    assert (tmp_path / "again.onnx").read_bytes() == int8.read_bytes()
    status, _, err = edgedetr("export", "qdq", path, "--exclude", "stem", "-o", tmp_path / "x.onnx")
    assert status == 2
    assert "trained for INT8 in certain nodes; give STATS" in err
    assert not (tmp_path / "x.onnx").exists()


def test_a_model_that_was_not_trained_for_int8_wants_stats(exported, edgedetr, tmp_path):
    status, _, err = edgedetr("export", "qdq", exported[0], "-o", tmp_path / "x.onnx")
    assert status == 1
    assert "was not trained for INT8 and holds no ranges; give STATS: edgedetr calib collect" in err


@pytest.mark.slow
def test_damaged_ranges_are_one_line(trained, edgedetr, tmp_path):
    model = load_onnx(trained[1])
    (entry,) = (p for p in model.metadata_props if p.key == RANGES_KEY)
    assert len(json.loads(entry.value)["ranges"]) > 80
    entry.value = entry.value[:100]
    onnx.save(model, tmp_path / "damaged.onnx")
    status, _, err = edgedetr("export", "qdq", tmp_path / "damaged.onnx")
    assert status == 1
    assert "damaged.onnx: its ranges are damaged" in err


@pytest.mark.slow
def test_a_graph_that_rounds_elsewhere_than_the_training_is_refused(trained):
    model, graph = load_model(trained[0]), load_onnx(trained[1])
    whole = quantization_in(trained[0])
    fewer, other = replace(whole, exclude="stem3"), replace(whole, include="")
    with pytest.raises(ArtifactError, match=r"does not round at model\.backbone.*stem3"):
        trained_ranges(graph, model, fewer)
    with pytest.raises(ArtifactError, match="does not round at"):
        trained_ranges(graph, model, other)
    lacking = tuple(layer for layer in whole.layers if "stem4" not in layer.path)
    with pytest.raises(ArtifactError, match=r"the graph rounds at .*stem4"):
        trained_ranges(graph, model, replace(whole, layers=lacking))
    fourth = next(layer for layer in whole.layers if "stem4" in layer.path)
    changed = tuple(
        replace(layer, input_step=9.0) if layer == fourth else layer for layer in whole.layers
    )
    ranges = trained_ranges(graph, model, replace(whole, layers=changed)).ranges
    assert 9.0 * 127 in [r.amax for r in ranges]


def test_rounding_is_that_of_onnx_runtime(onnx_model):
    step = 0.0371
    model = onnx_model(
        [
            ("QuantizeLinear", "q", ["images", "step", "zero"], "i", {}),
            ("DequantizeLinear", "dq", ["i", "step", "zero"], "y", {}),
        ],
        {"step": np.float32(step), "zero": np.int8(0)},
        inputs={"images": (1, 4000)},
        outputs=["y"],
    )
    x = np.random.default_rng(0).uniform(-6, 6, (1, 4000)).astype(np.float32)
    x[0, :400] = (np.arange(-200, 200) + 0.5) * np.float32(step)  # on the borders, or next to them
    expected = session(model).run(None, {"images": x})[0]
    found = fake_quantized(torch.from_numpy(x), step).numpy()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_verify_rounds_beside_int8_and_computes_in_float_beside_floats(trained):
    checkpoint, path, int8 = trained
    frames = textured_frames(load_model(checkpoint).spec.input_hw, 4)
    simulation, rounding, plain = (
        verify(a, b, frames, Rule(threshold=0.0, top=20), Gate())
        for a, b in ((checkpoint, int8), (path, int8), (checkpoint, path))
    )
    assert simulation.precisions == ("int8", "int8")
    assert simulation.verdict != "failed"  # four frames are too few to pass
    assert simulation.share.share < simulation.limits.lost_share
    errors = [report.figures.mean_score_error for report in (simulation, rounding)]
    assert errors[0] is not None
    assert errors[1] is not None
    assert errors[0] < 0.3 * errors[1]
    assert plain.precisions == ("fp32", "fp32")
    assert plain.passed


@pytest.mark.slow
def test_the_traced_graph_of_a_trained_checkpoint_is_its_int8_graph(trained):
    checkpoint, _, int8 = trained
    runner = open_runner(checkpoint)
    assert isinstance(runner, TorchRunner)
    traced = runner.traced()
    assert runner.precision == traced.precision == "int8"
    kinds = ("QuantizeLinear", "DequantizeLinear", "Conv", "MatMul")
    counts, written = count_nodes(traced.model), count_nodes(load_onnx(int8))
    assert [counts[kind] for kind in kinds] == [written[kind] for kind in kinds]
    assert runner.in_float().traced().precision == "fp32"
