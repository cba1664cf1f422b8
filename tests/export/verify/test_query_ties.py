"""Two FP32 models that select otherwise among tied scores are compared with one selection."""

import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from typing_extensions import override

torch: Any = pytest.importorskip("torch")

from edgedetr.export.verify.compare import compare  # noqa: E402
from edgedetr.export.verify.limits import FP32_LIMITS, INT8_LIMITS  # noqa: E402
from edgedetr.export.verify.matching import Rule  # noqa: E402
from edgedetr.export.verify.query_ties import (  # noqa: E402
    SelectingRunner,
    Selection,
    SelectionError,
    with_same_selection,
)
from edgedetr.export.verify.runners.onnx import OnnxRunner  # noqa: E402
from edgedetr.export.verify.runners.torch import TorchRunner  # noqa: E402
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec  # noqa: E402

SPEC = ModelSpec((4, 8), ("Car", "Pedestrian"), resize="stretch")
PLACES, QUERIES = 32, 4
WHITE = np.full((4, 8, 3), 255, np.uint8)
GREYS = np.random.default_rng(0).permutation(PLACES).astype(np.uint8)
SHADED = np.repeat(100 + 3 * GREYS.reshape(4, 8, 1), 3, axis=2)  # no two places are alike


class Selects(torch.nn.Module):  # type: ignore[misc]
    """Takes the four brightest places; each has a box of its own."""

    def __init__(self, queries: int = QUERIES) -> None:
        super().__init__()
        self.queries = queries
        x, y = torch.meshgrid(torch.arange(8), torch.arange(4), indexing="xy")
        boxes = torch.stack([(x + 0.5) / 8, (y + 0.5) / 4], 2).reshape(PLACES, 2)
        size = torch.tensor([1 / 8, 1 / 4]).expand(PLACES, 2)
        self.boxes = torch.nn.Parameter(torch.cat([boxes, size], 1))

    def forward(self, images: Any) -> tuple[Any, Any]:
        scores = images.mean(1).flatten(1)
        top, which = torch.topk(scores, self.queries, dim=1)
        boxes = self.boxes[None].gather(1, which[..., None].expand(-1, -1, 4))
        return torch.stack([top, top - 9], 2), boxes


def runner(network: Any, spec: ModelSpec = SPEC) -> TorchRunner:
    model: Any = SimpleNamespace(spec=spec, network=network, predict=network, quantization=None)
    return TorchRunner(model)


@pytest.fixture
def export(tmp_path):
    """Write a network as an ONNX file, and let ``change`` its graph; returns a runner."""

    def make(network, change=None):
        path = tmp_path / "network.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (torch.zeros(1, 3, *SPEC.input_hw),),
                path,
                input_names=["images"],
                output_names=["logits", "boxes"],
                opset_version=17,
                dynamo=False,
            )
        model = onnx.load(path)
        if change:
            change(model.graph)
        helper.set_model_props(model, {METADATA_KEY: SPEC.to_json()})
        onnx.save(model, path)
        return OnnxRunner(path)

    return make


def noise(size):
    """Prefer the last places by ``size`` each, where PyTorch and ONNX Runtime take others."""

    def change(graph):
        at, top = next((i, n) for i, n in enumerate(graph.node) if n.op_type == "TopK")
        values = size * np.arange(PLACES, dtype=np.float32)[None]
        graph.initializer.append(numpy_helper.from_array(values, "noise"))
        graph.node.insert(at, helper.make_node("Add", [top.input[0], "noise"], ["noisy"], "noise"))
        graph.node[at + 1].input[0] = "noisy"

    return change


def shifted(graph):
    """Move every box by a quarter of its width, behind the selection."""
    for node in graph.node:
        node.output[:] = ["before" if name == "boxes" else name for name in node.output]
    step = np.array([1 / 32, 0, 0, 0], np.float32)
    graph.initializer.append(numpy_helper.from_array(step, "step"))
    graph.node.append(helper.make_node("Add", ["before", "step"], ["boxes"], "shift"))


def both(first, second):
    def change(graph):
        first(graph)
        second(graph)

    return change


def seen(a, b, frames=(WHITE,), limits=FP32_LIMITS):
    return compare(a, b, frames, Rule(), limits, ("a", "b"))


def lost(evidence, limits=FP32_LIMITS):
    return evidence.share(limits).lost


def selected(one):
    (selection,) = one.select(np.ones((1, 3, 4, 8), np.float32))[1]
    return sorted(selection.indices[0].tolist())


def test_another_selection_among_tied_scores_is_no_fault(export):
    network, other = runner(Selects()), export(Selects(), noise(1e-6))
    assert selected(other) == [28, 29, 30, 31]
    assert selected(network) != selected(other)
    for a, b in ((network, other), (other, network)):
        evidence = seen(a, b, (WHITE, SHADED))
        assert (lost(evidence), evidence.figures.unmatched) == (0, 0)
        assert evidence.figures.tied_frames == 1
        assert [frame.tied for frame in evidence.frames] == [True, False]
        assert "1 frame with tied queries" in evidence.figures.summary()


def test_where_no_two_places_are_alike_nothing_is_tied(export):
    evidence = seen(runner(Selects()), export(Selects()), (SHADED,))
    assert (lost(evidence), evidence.figures.tied_frames, evidence.figures.matched) == (0, 0, 8)


@pytest.mark.parametrize("frame", [WHITE, SHADED])
def test_what_differs_ahead_of_the_selection_is_not_excused(export, frame):
    """A hundredth more from place to place is no rounding."""
    evidence = seen(runner(Selects()), export(Selects(), noise(1e-2)), (frame,))
    assert lost(evidence) > 0
    assert evidence.figures.tied_frames == 0


@pytest.mark.parametrize("change", [shifted, both(noise(1e-6), shifted)])
def test_what_differs_behind_the_selection_is_not_excused(export, change):
    """Each box is ten pixels wide in this frame, and moves by 2.5 of them."""
    large = np.full((40, 80, 3), 255, np.uint8)
    evidence = seen(runner(Selects()), export(Selects(), change), (large,))
    assert lost(evidence) > 0
    assert evidence.figures.tied_frames == 0


def test_only_exact_gates_know_ties(export):
    evidence = seen(runner(Selects()), export(Selects(), noise(1e-6)), limits=INT8_LIMITS)
    assert lost(evidence, INT8_LIMITS) > 0
    assert evidence.figures.tied_frames == 0


def test_models_that_see_the_frame_otherwise_are_not_excused(export):
    other = export(Selects(), noise(1e-6))
    network = runner(Selects(), replace(SPEC, mean=(0.5, 0.5, 0.5)))
    assert seen(network, other).figures.tied_frames == 0


def test_models_that_select_elsewhere_or_not_at_all_have_no_common_selection(export, tiny_onnx):
    images = np.ones((1, 3, 4, 8), np.float32)
    network = runner(Selects())

    class Twice(Selects):
        @override
        def forward(self, images: Any) -> tuple[Any, Any]:
            super().forward(images)
            return super().forward(images)

    assert with_same_selection(network, runner(Selects()), images) is not None
    twice, fewer = runner(Twice()), runner(Selects(3))
    for a, b in ((network, twice), (twice, network), (network, fewer)):
        assert with_same_selection(a, b, images) is None
    other = export(Selects())
    assert with_same_selection(twice, other, images) is None
    without = OnnxRunner(tiny_onnx(spec=SPEC))
    pairs: tuple[tuple[SelectingRunner, SelectingRunner], ...] = (
        (without, without),
        (without, network),
        (network, without),
        (other, without),
    )
    for one, two in pairs:
        assert with_same_selection(one, two, images) is None


def test_a_model_of_a_larger_batch_has_no_selection_of_one_image(onnx_model, tmp_path):
    """Its outputs are compared as they are, and what differs is lost."""
    runners = []
    for name, score in (("a", 4.0), ("b", 4.5)):
        model = onnx_model(
            [
                ("ReduceMean", "mean", ["images"], "m", {"axes": [1, 2], "keepdims": 0}),
                ("TopK", "top", ["m", "k"], ("best", "which"), {"axis": 1}),
                ("Unsqueeze", "row", ["best", "last"], "rows", {}),
                ("Concat", "four", ["rows", "rows", "rows", "rows"], "same", {"axis": 2}),
                ("Mul", "half", ["same", "size"], "boxes", {}),
                ("Concat", "two", ["rows", "rows"], "equal", {"axis": 2}),
                ("Add", "add", ["equal", "score"], "logits", {}),
            ],
            {"k": np.array([2]), "last": np.array([2]), "size": [0.5], "score": [score]},
            inputs={"images": (3, 3, 4, 8)},
            outputs=("logits", "boxes"),
            spec=SPEC,
        )
        onnx.save(model, tmp_path / f"{name}.onnx")
        runners.append(OnnxRunner(tmp_path / f"{name}.onnx"))
    a, b = runners
    with pytest.raises(SelectionError):
        a.select(np.ones((1, 3, 4, 8), np.float32))
    evidence = seen(a, b)
    assert (lost(evidence), evidence.figures.tied_frames) == (4, 0)


def test_scores_of_other_places_are_no_common_selection():
    """The same k of twice as many places: nothing that could be compared."""

    class Doubled(Selects):
        @override
        def forward(self, images: Any) -> tuple[Any, Any]:
            return super().forward(torch.cat([images, images], 3)[..., :16])

    wide = Doubled()
    wide.boxes = torch.nn.Parameter(wide.boxes.repeat(2, 1))
    images = np.ones((1, 3, 4, 8), np.float32)
    assert with_same_selection(runner(Selects()), runner(wide), images) is None


def test_forced_selections_are_used_by_both(export):
    images = np.random.default_rng(1).random((1, 3, 4, 8), np.float32)
    forced = [Selection(np.zeros(0, np.float32), np.array([[3, 9, 1, 30]]))]
    both_ways: tuple[SelectingRunner, ...] = (runner(Selects()), export(Selects()))
    for one in both_ways:
        (logits, boxes), (made,) = one.select(images, forced)
        scores = images.mean(1).reshape(-1)
        assert made.indices.tolist() == [[3, 9, 1, 30]]
        np.testing.assert_allclose(made.scores[0], scores, atol=1e-6)
        np.testing.assert_allclose(logits[0, :, 0], scores[[3, 9, 1, 30]], atol=1e-6)
        np.testing.assert_allclose(boxes[0, :, 0], [3.5 / 8, 1.5 / 8, 1.5 / 8, 6.5 / 8])
