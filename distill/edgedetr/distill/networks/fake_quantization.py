"""Compute a network as its INT8 export will: fake quantization while it trains and is evaluated.

Inputs and weights of the layers that the export quantizes are rounded to INT8 and back where its
graph has a pair of Q and DQ: activations per tensor with fixed steps, weights per output channel
after the batch norm behind them is folded in. Gradients pass the rounding as if it were not there
and end where a value is clipped (the straight-through estimator; Bengio et al., 2013,
arXiv:1308.3432). Steps may be learnt, see `edgedetr.distill.networks.learnt_steps`. The network and
its state stay as they are else: a mode of torch recognizes the layers by their weights while it is
open, and no other network, such as a teacher, is touched.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from edgedetr.distill.networks.learnt_steps import LearntSteps, rounded, rounded_weight
from edgedetr.graph.int8 import LEVELS, SMALLEST_STEP
from edgedetr.runtime.errors import ArtifactError, EdgeDetrError, SettingsError
from edgedetr.runtime.settings import settings_from_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

QUANTIZATION_KEY = "edgedetr.quantization"
"""Key of a `Quantization` in a checkpoint's metadata."""

LEARNT = "int8_steps"
"""Name of the `LearntSteps` in a network."""

_LAYERS = {F.conv2d, F.linear}  # modules call them with positional arguments
_ADDITIONS = {torch.add, Tensor.add, Tensor.add_}


@dataclass(frozen=True)
class QuantizedLayer:
    """A convolution or linear layer that the export computes in INT8.

    Attributes:
        path: Of its module in the network.
        norm: Path of the batch norm that the export folds into it; empty where there is none.
        input_step: The value of one INT8 step of its input.
        skip_step: That of the other side of the addition that absorbs its result; 0 where no
            addition does.
        input_range: Name of the range of its input, which others may share.
        skip_range: That of the skip; empty where there is none.
    """

    path: str
    norm: str
    input_step: float
    skip_step: float = 0.0
    input_range: str = ""
    skip_range: str = ""


@dataclass(frozen=True)
class Quantization:
    """Where a network is quantized, with which steps, and where these come from.

    Attributes:
        layers: The quantized layers, in the order in which they run.
        include: What ``edgedetr export qdq --include`` takes to quantize exactly these.
        exclude: Likewise.
        method: How calibration chose the steps: a method of ``edgedetr calib collect``.
        percentile: Likewise.
        frames: How many frames were seen for them.
        frames_sha256: Hash of these frames.
        is_learnt: Whether training moves the steps; those of the layers are the first ones then.
    """

    layers: tuple[QuantizedLayer, ...]
    include: str
    exclude: str
    method: str
    percentile: float
    frames: int
    frames_sha256: str
    is_learnt: bool = False

    @property
    def choice(self) -> tuple[str, str]:
        """What to include and to exclude."""
        return self.include, self.exclude

    def to_json(self) -> str:
        """Return it as text that `quantization_from_json` reads."""
        return json.dumps(asdict(self), indent=1)


def quantization_from_json(text: str, source: str) -> Quantization:
    """Read what `Quantization.to_json` gives.

    Raises:
        ArtifactError: If it is damaged; ``source`` says where it was found.
    """
    try:
        return settings_from_dict(Quantization, json.loads(text), source)
    except (ValueError, RecursionError, SettingsError) as error:
        raise ArtifactError(f"{source}: its quantization is damaged: {error}") from error


def learn_steps(network: nn.Module, quantization: Quantization) -> None:
    """Give a network the steps of its quantization as parameters, where they are learnt.

    They start where calibration has them; those of weights where their largest weight ends.
    """
    if not quantization.is_learnt:
        forget_steps(network)
        return
    modules = dict(network.named_modules())
    activations: dict[str, float] = {}
    weights = []
    for layer in quantization.layers:
        activations[layer.input_range] = layer.input_step
        if layer.skip_range:
            activations[layer.skip_range] = layer.skip_step
        weight, _ = folded(modules[layer.path], modules[layer.norm] if layer.norm else None)
        weights.append(_weight_steps(weight))
    network.add_module(LEARNT, LearntSteps(activations, weights))


def learnt_steps(network: nn.Module) -> LearntSteps | None:
    """Return a network's learnt steps; None where it has none."""
    found = getattr(network, LEARNT, None)
    return found if isinstance(found, LearntSteps) else None


def forget_steps(network: nn.Module) -> None:
    """Take learnt steps out of a network."""
    if learnt_steps(network) is not None:
        delattr(network, LEARNT)


def simulated(
    network: nn.Module, quantization: Quantization | None
) -> AbstractContextManager[object]:
    """Let a network compute as its INT8 export while the block runs; in float for None."""
    return nullcontext() if quantization is None else _Simulation(network, quantization)


def freeze_batch_norms(network: nn.Module) -> None:
    """Let all batch norms use what they have seen: an export folds just that into its weights."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - no public parent
            module.eval()


def fake_quantized(x: Tensor, step: float) -> Tensor:
    """Round to the INT8 values -128 to 127, times ``step``, as ONNX's QuantizeLinear does.

    Halves go to the even neighbour. The gradient is that of clipping alone.
    """
    # A tensor and not a number, which CUDA would divide by as a product with its inverse.
    rounded: Tensor = _Rounding.apply(x, x.new_full((), step), -LEVELS - 1)
    return rounded


def fake_quantized_weight(weight: Tensor) -> Tensor:
    """Round weights to the INT8 values -127 to 127 of their output channel, the first axis.

    A step below FP16's smallest number counts as 0, as `edgedetr export qdq` has it.
    """
    steps = _weight_steps(weight).reshape(-1, *[1] * (weight.ndim - 1))
    rounded: Tensor = _Rounding.apply(weight, steps, -LEVELS)
    return rounded


def _weight_steps(weight: Tensor) -> Tensor:
    """Return the step of each output channel of weights."""
    steps = weight.detach().flatten(1).abs().amax(1).double() / LEVELS
    return torch.where(steps > SMALLEST_STEP, steps, 1.0).to(weight.dtype)


def folded(layer: Any, norm: Any) -> tuple[Tensor, Tensor | None]:  # noqa: ANN401
    """Return a layer's weights and bias with a batch norm, or None, folded in as ONNX's are.

    Args:
        layer: A convolution, or a linear layer where there is no norm.
        norm: A `torch.nn.BatchNorm2d` in evaluation mode.
    """
    weight, bias = layer.weight, layer.bias
    if norm is None:
        return weight, bias
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    mean = norm.running_mean if bias is None else norm.running_mean - bias
    return weight * factor.reshape(-1, 1, 1, 1), norm.bias - mean * factor


class _Rounding(torch.autograd.Function):
    """Rounds to multiples of a step, inside a range; see `fake_quantized`."""

    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, step: Tensor, lowest: int) -> Tensor:
        levels = torch.round(x / step)
        ctx.save_for_backward((levels >= lowest) & (levels <= LEVELS))
        return levels.clamp_(lowest, LEVELS).mul_(step)

    @staticmethod
    @override
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None


class _Simulation(TorchFunctionMode):
    """Quantizes a network's layers and skips as they are computed."""

    def __init__(self, network: nn.Module, quantization: Quantization) -> None:
        super().__init__()
        modules = dict(network.named_modules())
        learnt = learnt_steps(network) if quantization.is_learnt else None
        self._steps = learnt.of_activations() if learnt else {}
        self._weight_steps = (
            dict(zip((la.path for la in quantization.layers), learnt.of_weights(), strict=True))
            if learnt
            else {}
        )
        self._layers = {
            id(modules[layer.path].weight): (
                layer,
                modules[layer.path],
                modules[layer.norm] if layer.norm else None,
            )
            for layer in quantization.layers
        }
        self._normed: dict[int, Tensor] = {}
        self._to_add: dict[int, tuple[Tensor, QuantizedLayer]] = {}

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _LAYERS and id(args[1]) in self._layers:
            return self._layer(func, *args, **kwargs)
        if func is F.batch_norm and id(args[0]) in self._normed:
            return self._normed.pop(id(args[0]))
        if self._to_add and func in _ADDITIONS:
            args = self._addends(*args)
        return func(*args, **kwargs)

    @override
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]
        if kind is None and (self._normed or self._to_add):
            missed = [layer.path for _, layer in self._to_add.values()]
            raise EdgeDetrError(
                f"the simulation of INT8 saw no addition behind {missed[0]}"
                if missed
                else "the simulation of INT8 saw a convolution without its batch norm"
            )

    def _layer(
        self,
        func: Callable[..., Tensor],
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *rest: object,
        **kwargs: object,
    ) -> Tensor:
        layer, module, norm = self._layers[id(weight)]
        if norm is not None:
            weight, bias = folded(module, norm)
        x = self._rounded(x, layer.input_range, layer.input_step)
        weight = self._rounded_weight(weight, layer.path)
        out = func(x, weight, bias, *rest, **kwargs)
        if norm is not None:
            self._normed[id(out)] = out
        if layer.skip_step:
            self._to_add[id(out)] = out, layer
        return out

    def _addends(self, a: Any, b: Any, *rest: object) -> tuple[Any, ...]:  # noqa: ANN401
        """Quantize the skip where the other addend is the result that absorbs the addition."""
        if id(a) in self._to_add:
            layer = self._to_add.pop(id(a))[1]
            return a, self._rounded(b, layer.skip_range, layer.skip_step), *rest
        if id(b) in self._to_add:
            layer = self._to_add.pop(id(b))[1]
            return self._rounded(a, layer.skip_range, layer.skip_step), b, *rest
        return a, b, *rest

    def _rounded(self, x: Tensor, name: str, step: float) -> Tensor:
        return rounded(x, self._steps[name]) if self._steps else fake_quantized(x, step)

    def _rounded_weight(self, weight: Tensor, path: str) -> Tensor:
        if not self._weight_steps:
            return fake_quantized_weight(weight)
        return rounded_weight(weight, self._weight_steps[path])


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution or linear layer of a network as it is used.

    Attributes:
        path: Of its module.
        norm: Path of the batch norm that reads its result; empty where none does.
        weight: Its weights, the norm folded in.
        calls: How often it is called for a batch.
    """

    path: str
    norm: str
    weight: Tensor
    calls: int


def used_layers(network: nn.Module, forward: Callable[[], object]) -> list[Layer]:
    """List the layers of a network that a forward pass uses, in the order of their first use."""
    recorder = _Recorder(network)
    with torch.no_grad(), recorder:
        forward()
    modules = dict(network.named_modules())
    layers = []
    for path, calls in recorder.calls.items():
        norm = recorder.norms.get(path, "")
        weight, _ = folded(modules[path], modules[norm] if norm else None)
        layers.append(Layer(path, norm, weight.detach(), calls))
    return layers


class _Recorder(TorchFunctionMode):
    """Notes which layers are called, and which batch norm reads the result of which."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.norms: dict[str, str] = {}
        self._layers: dict[int, str] = {}
        self._norms: dict[int, str] = {}
        for path, module in network.named_modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                self._layers[id(module.weight)] = path
            elif isinstance(module, nn.BatchNorm2d) and module.affine:
                self._norms[id(module.running_mean)] = path
        self._results: dict[int, tuple[Tensor, str]] = {}

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in _LAYERS and id(args[1]) in self._layers:
            path = self._layers[id(args[1])]
            self.calls[path] += 1
            self._results[id(out)] = out, path
        elif func is F.batch_norm and id(args[0]) in self._results:
            _, path = self._results.pop(id(args[0]))
            self.norms[path] = self._norms.get(id(args[1]), "")
        return out
