"""Steps of INT8 that are learnt with the weights (LSQ; Esser et al., ICLR 2020, arXiv:1902.08153).

A value x is rounded to ``s * round(clip(x / s, low, high))``. The gradient of s is
``round(x / s) - x / s`` where x is not clipped and ``low`` or ``high`` where it is, times
``1 / sqrt(N * high)`` for N values a step, as the paper has it; that of x is that of clipping. So
a step settles where rounding and clipping cost the loss least: no other clipping is learnt.

What is trained is the logarithm of a step (as in Jain et al., MLSys 2020, arXiv:1903.08066): steps
of weights are a hundredth of those of activations, and AdamW moves all parameters by as much,
whatever their gradient is. Steps start where calibration has them. The paper's start, 2 * mean|x| /
sqrt(high), is for a few bits: at eight it leaves most numbers of INT8 unused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from edgedetr.graph.int8 import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GAIN = 10.0
"""How much faster than other parameters the logarithm of a step moves: at a rate of 1e-4 by up to a
thousandth a step of the optimizer."""

_HALF_ERROR = 2.0**-10


class LearntSteps(nn.Module):
    """The steps of a network's activations and weights, as parameters.

    Args:
        activations: Name of each range to the value of its step at the start. Layers that read one
            tensor share its range.
        weights: The steps of each layer's weights at the start, one for each output channel.
    """

    def __init__(self, activations: Mapping[str, float], weights: Sequence[Tensor]) -> None:
        super().__init__()
        self.names = tuple(activations)
        self.sizes = [len(steps) for steps in weights]
        self.activations = nn.Parameter(torch.zeros(len(activations)))
        self.weights = nn.Parameter(torch.zeros(sum(self.sizes)))
        self.activation_starts: Tensor
        self.weight_starts: Tensor
        self.register_buffer("activation_starts", torch.tensor(list(activations.values())))
        self.register_buffer("weight_starts", torch.cat([w.detach().float() for w in weights]))

    def of_activations(self) -> dict[str, Tensor]:
        """Return the step of each range, a scalar."""
        steps = _half(self.activation_starts * torch.exp(GAIN * self.activations))
        return dict(zip(self.names, steps.unbind(), strict=True))

    def of_weights(self) -> list[Tensor]:
        """Return the steps of each layer's weights, one for each output channel."""
        steps = _half(self.weight_starts * torch.exp(GAIN * self.weights))
        return list(torch.split(steps, self.sizes))


def rounded(x: Tensor, step: Tensor) -> Tensor:
    """Round activations (B, ...) to the INT8 values -128 to 127 of a step, a scalar."""
    scale = (x[0].numel() * LEVELS) ** -0.5
    found: Tensor = _Rounding.apply(x, step.to(x.dtype), -LEVELS - 1, scale)
    return found


def rounded_weight(weight: Tensor, steps: Tensor) -> Tensor:
    """Round weights to the INT8 values -127 to 127 of their output channel's step, (C,)."""
    scale = (weight[0].numel() * LEVELS) ** -0.5
    wide = steps.to(weight.dtype).reshape(-1, *[1] * (weight.ndim - 1))
    found: Tensor = _Rounding.apply(weight, wide, -LEVELS, scale)
    return found


def _half(steps: Tensor) -> Tensor:
    """Round steps to FP16 where it has them, as the export does; gradients pass."""
    half = steps.detach().half().to(steps.dtype)
    error = half - steps.detach()
    return steps + torch.where(error.abs() <= steps.detach() * _HALF_ERROR, error, 0.0)


class _Rounding(torch.autograd.Function):
    """Rounds to multiples of a step, inside a range, with a gradient for the step."""

    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, step: Tensor, lowest: int, scale: float) -> Tensor:
        ctx.save_for_backward(x, step)
        ctx.lowest, ctx.scale = lowest, scale
        return torch.round(x / step).clamp_(lowest, LEVELS).mul_(step)

    @staticmethod
    @override
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, step = ctx.saved_tensors
        ratio = x / step
        levels = torch.round(ratio)
        inside = (levels >= ctx.lowest) & (levels <= LEVELS)
        slope = torch.where(inside, levels - ratio, levels.clamp_(ctx.lowest, LEVELS))
        of_step = (gradient * slope).sum_to_size(step.shape) * ctx.scale
        return gradient * inside, of_step, None, None
