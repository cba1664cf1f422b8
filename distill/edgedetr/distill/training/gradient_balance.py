"""Holds each distillation term to a share of the detection loss's gradient.

Fixed weights fit one pair of models and one moment of a run. Here a term's factor is set so that
the norm of its gradient at the student's memory is a stated share of the detection loss's there,
in the spirit of RT-DETRv4's gradient-guided adaptive modulation (Liao et al., 2025).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from typing_extensions import override

from edgedetr.distill.networks.whole_batch import current_part, total

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgedetr.distill.types import Losses
EVERY = 10
"""Training passes between two measurements, each of which costs a backward pass to the memory."""

SMOOTHING = 0.8
"""Weight of the earlier factor in its moving average."""


class Balance(nn.Module):
    """Factors of distillation terms, measured every few passes.

    Args:
        shares: Wanted share of each term that is held to one.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        super().__init__()
        self.shares = dict(shares)
        self.passes: Tensor
        self.factors: Tensor
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))
        self.register_buffer("factors", torch.ones(len(self.shares)))

    @override
    def forward(
        self,
        detection: Losses,
        distillation: Mapping[str, Tensor],
        memory: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """Return the distillation terms, each times its factor.

        Args:
            detection: The weighted terms of the detection loss.
            distillation: The distillation terms; those without a share keep their weight.
            memory: The student's memory, which they all depend on; a term that does not depend on
                it keeps its factor.
        """
        if not self.shares:
            return dict(distillation)
        if self.training and int(self.passes) % EVERY == 0:
            self._measure(torch.stack([*detection.values()]).sum(), distillation, memory)
        if self.training:
            self.passes += 1
        factors = dict(zip(self.shares, self.factors.unbind(), strict=True))
        return {name: term * factors.get(name, 1.0) for name, term in distillation.items()}

    def _measure(
        self, detection: Tensor, distillation: Mapping[str, Tensor], memory: Sequence[Tensor]
    ) -> None:
        wanted = gradient_norm(detection, memory)
        first = int(self.passes) == 0
        for index, (name, share) in enumerate(self.shares.items()):
            norm = gradient_norm(distillation[name], memory)
            if norm > 0 and wanted > 0:
                factor = share * wanted / norm
                before = self.factors[index]
                self.factors[index] = factor if first else before.lerp(factor, 1 - SMOOTHING)


def gradient_norm(loss: Tensor, memory: Sequence[Tensor]) -> Tensor:
    """Return the norm of the gradient of a scalar loss at tensors it may depend on.

    It is that at the tensors of the whole batch.
    """
    where = [m for m in memory if m.requires_grad]
    if not where or not loss.requires_grad:
        return _of_whole_batch(loss.new_zeros(()))
    gradients: Sequence[Tensor | None] = torch.autograd.grad(
        loss, where, retain_graph=True, allow_unused=True
    )
    norms = [g.norm() for g in gradients if g is not None]
    return _of_whole_batch(torch.stack(norms).norm() if norms else loss.new_zeros(()))


def _of_whole_batch(norm: Tensor) -> Tensor:
    return norm if current_part() is None else total(norm.square()).sqrt()
