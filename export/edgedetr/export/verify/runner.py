"""Run a checkpoint, an ONNX file of any precision or an engine, to compare them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgedetr.runtime.decode import decode
from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnx
    import onnxruntime
    from numpy.typing import NDArray

    from edgedetr.distill.model import Model
    from edgedetr.export.transforms.deformable_attention import Form
    from edgedetr.export.verify.choices import Choice, ChoosingGraph
    from edgedetr.graph.exact import ExactGraph, Precision
    from edgedetr.runtime.spec import ModelSpec

    Answer = tuple[NDArray[np.float32], NDArray[np.float32]]

MOST_FREE = 4
"""The largest batch that is tried where a model takes any."""


class Runner(Protocol):
    """A model that answers.

    Attributes:
        spec: The contract of the model.
        precision: What its coarsest numbers are.
        batch_sizes: How many images at once to try, smallest first.
    """

    spec: ModelSpec
    precision: Precision
    batch_sizes: tuple[int, ...]

    def __call__(self, images: NDArray[np.float32]) -> Answer:
        """Answer images (B, 3, H, W) with logits (B, Q, K) and boxes (B, Q, 4).

        The returned arrays are valid until the next call.
        """
        ...


def open_runner(path: Path, spec: ModelSpec | None = None) -> Runner:
    """Load a ``.safetensors`` checkpoint, an ``.onnx`` file or an ``.engine``.

    A checkpoint that was trained for INT8 computes as its INT8 export does.

    Args:
        path: The file.
        spec: The contract of a foreign model; a file that carries its own keeps that.

    Raises:
        UsageError: If it is none of them.
        ArtifactError: If the file is missing, damaged or without a spec, or cannot run here.
    """
    if path.suffix == ".safetensors":
        from edgedetr.distill.weights.checkpoint import load_model

        return TorchRunner(load_model(path), as_int8=True)
    if path.suffix == ".onnx":
        return OnnxRunner(path, spec)
    if path.suffix == ".engine":
        from edgedetr.export.verify.runners.engine import EngineRunner

        return EngineRunner(path, spec)
    raise UsageError(
        f"{path}: wanted a .safetensors checkpoint, an .onnx model or a TensorRT .engine"
    )


def graph_of(runner: Runner, *, traced: bool) -> ExactGraph | None:
    """Return the graph that a model computes, or None where it has none that can be read.

    Args:
        runner: The model.
        traced: Whether a checkpoint is traced to one, which takes as long as its export.
    """
    if isinstance(runner, OnnxRunner):
        return runner.graph
    if traced and isinstance(runner, TorchRunner):
        return runner.traced()
    return None


class TorchRunner:
    """A network in PyTorch, on the CPU.

    Args:
        model: The network.
        sampling: How its deformable attention reads maps; its own way is ``grid_sample``.
        as_int8: Whether one that was trained for INT8 rounds as its INT8 export does.
    """

    batch_sizes: tuple[int, ...] = (1,)

    def __init__(
        self, model: Model, sampling: Form = "grid_sample", *, as_int8: bool = False
    ) -> None:
        self.spec = model.spec
        self.model = model
        self._sampling = sampling
        self._quantization = model.quantization if as_int8 else None
        self.precision: Precision = "int8" if self._quantization else "fp32"

    def in_float(self) -> TorchRunner:
        """Return the same network as it computes in float."""
        return TorchRunner(self.model, self._sampling)

    def __call__(self, images: NDArray[np.float32]) -> Answer:
        """Answer images (B, 3, H, W); see `Runner`."""
        import torch

        from edgedetr.distill.networks.fake_quantization import simulated
        from edgedetr.export.transforms.deformable_attention import sampled_by

        model, rounding = self.model, simulated(self.model.network, self._quantization)
        with torch.inference_mode(), sampled_by(self._sampling, model.network), rounding:
            logits, boxes = model.predict(torch.from_numpy(images))
        return logits.numpy(), boxes.numpy()

    def choose(
        self, images: NDArray[np.float32], forced: Sequence[Choice] = ()
    ) -> tuple[Answer, list[Choice]]:
        """See `edgedetr.export.verify.choices.Chooser`."""
        from edgedetr.export.verify.choices import ChoiceError
        from edgedetr.export.verify.torch_choices import TorchChoices

        with TorchChoices(forced) as choices:
            answer = self(images)
        if forced and len(choices.made) != len(forced):
            raise ChoiceError
        return answer, choices.made

    def traced(self) -> ExactGraph:
        """Return the graph that ``edgedetr export onnx`` writes of it; for INT8 ``export qdq``."""
        import tempfile
        from pathlib import Path

        from edgedetr.export.to_onnx import trace
        from edgedetr.export.transforms.simplify import simplify
        from edgedetr.export.transforms.trained_ranges import trained_graph
        from edgedetr.graph.exact import exact_graph
        from edgedetr.graph.model_file import load_onnx

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "traced.onnx"
            trace(self.model, path)
            graph = simplify(load_onnx(path)).model
        if self._quantization:
            graph = trained_graph(graph, self.model, self._quantization)
        return exact_graph(graph)


class OnnxRunner:
    """An ONNX file in ONNX Runtime, which computes it exactly as it is typed.

    Attributes:
        graph: What it computes.
    """

    def __init__(self, path: Path, spec: ModelSpec | None = None) -> None:
        from edgedetr.graph.contract import check_answers, check_declared
        from edgedetr.graph.exact import exact_graph, exact_session
        from edgedetr.graph.model_file import embedded_spec, load_onnx
        from edgedetr.runtime.meaning import example_input
        from edgedetr.runtime.spec import METADATA_KEY

        model = load_onnx(path)
        carries_one = any(p.key == METADATA_KEY for p in model.metadata_props)
        self.spec = spec if spec and not carries_one else embedded_spec(model, path)
        smallest = check_declared(model, self.spec, path)
        takes_any = _takes_any(model, self.spec)
        self.batch_sizes: tuple[int, ...] = (1, 2, MOST_FREE) if takes_any else (smallest,)
        self.graph: ExactGraph = exact_graph(model)
        self.precision = self.graph.precision
        self._name = str(path)
        self._session = exact_session(self.graph.model, self._name)
        self._choosing: dict[bool, tuple[ChoosingGraph, onnxruntime.InferenceSession]] = {}
        image = example_input(self.spec)[None]
        check_answers(self._answers(image), model, self.spec, path, smallest)

    def __call__(self, images: NDArray[np.float32]) -> Answer:
        """Answer images (B, 3, H, W); see `Runner`.

        A file of a fixed larger batch sees the images as often as it takes to fill it.
        """
        logits, boxes = decode(self._answers(images), self.spec)
        return logits[: len(images)], boxes[: len(images)]

    def _answers(self, images: NDArray[np.float32]) -> list[NDArray[Any]]:
        from edgedetr.graph.exact import run_session

        spec = self.spec
        fed = np.resize(images, (max(len(images), self.batch_sizes[0]), *images.shape[1:]))
        return run_session(self._session, spec.output_names, {spec.input_name: fed}, self._name)

    def choose(
        self, images: NDArray[np.float32], forced: Sequence[Choice] = ()
    ) -> tuple[Answer, list[Choice]]:
        """See `edgedetr.export.verify.choices.Chooser`."""
        from edgedetr.export.verify.choices import Choice, ChoiceError, choosing_graph
        from edgedetr.graph.exact import exact_session, run_session

        if self.batch_sizes[0] != len(images):
            raise ChoiceError
        if bool(forced) not in self._choosing:
            graph = choosing_graph(self.graph.model, forced=bool(forced))
            self._choosing[bool(forced)] = graph, exact_session(graph.model, self._name)
        graph, session = self._choosing[bool(forced)]
        if forced and len(graph.indices) != len(forced):
            raise ChoiceError
        spec = self.spec
        feeds: dict[str, NDArray[Any]] = {spec.input_name: images}
        feeds |= {n: c.indices for n, c in zip(graph.indices, forced, strict=False)}
        asked = (*spec.output_names, *graph.scores)
        asked += () if forced else graph.indices
        answers = run_session(session, asked, feeds, self._name)
        own, found = answers[: len(spec.output_names)], answers[len(spec.output_names) :]
        scores = found[: len(graph.scores)]
        indices = [c.indices for c in forced] if forced else found[len(graph.scores) :]
        return decode(own, spec), [Choice(s, i) for s, i in zip(scores, indices, strict=True)]


def _takes_any(model: onnx.ModelProto, spec: ModelSpec) -> bool:
    """Tell whether a graph leaves the number of images open."""
    shape = next(i.type.tensor_type.shape for i in model.graph.input if i.name == spec.input_name)
    return bool(shape.dim[0].dim_value == 0)
