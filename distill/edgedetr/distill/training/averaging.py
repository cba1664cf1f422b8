"""The moving average of a network's weights: what is evaluated and saved."""

from __future__ import annotations

import math
from copy import deepcopy
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from typing_extensions import override

from edgedetr.distill.training.sharding import is_sharded, own_slice, split_like, whole

if TYPE_CHECKING:
    from collections.abc import Mapping


class MovingAverage(nn.Module):
    """Averages weights and buffers with a decay that starts low, so that short runs forget.

    The first update copies; after n updates the decay is ``min(decay, (1 + n) / (10 + n))``, or
    with a warm-up of w steps ``decay * (1 - exp(-n / w))``, as YOLO and RT-DETR have it. Counters
    are not averaged but taken over.

    Args:
        network: Copied; lies where the average is to lie. Where its weights are split afterwards,
            so is the average of each; `gather` brings that together in `module`.
        decay: What the decay rises to.
        warmup_steps: The w above; 0 for none.
    """

    def __init__(self, network: nn.Module, decay: float, warmup_steps: int = 0) -> None:
        super().__init__()
        self._warmup_steps = warmup_steps
        self.module = deepcopy(network)
        self.decay = decay
        self.updates: Tensor
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self._pairs: list[tuple[Tensor, Tensor]] | None = None
        self._count: int | None = None  # known here, so that no step waits for the device

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in what a network has become, always the same one, in place and on one device."""
        if self._pairs is None:
            self._pairs = self._paired(network)
        count = int(self.updates) if self._count is None else self._count
        self._count = count + 1
        decay = self._decay_after(count)
        slices = ((own_slice(averaged), own_slice(current)) for averaged, current in self._pairs)
        averaged, current = zip(*(p for p in slices if p[0].is_floating_point()), strict=True)
        torch._foreach_lerp_(averaged, current, 1 - decay)
        for counter, seen in self._pairs:
            if not counter.is_floating_point():
                counter.copy_(seen)
        self.updates += 1

    @torch.no_grad()
    def gather(self) -> None:
        """Bring `module` up to date where weights are split; all processes must do it together."""
        for own, (averaged, _) in zip(_tensors(self.module), self._pairs or (), strict=False):
            if is_sharded(averaged):
                own.copy_(whole(averaged))

    def _paired(self, network: nn.Module) -> list[tuple[Tensor, Tensor]]:
        """Return each averaged tensor, split where the network's is, with the network's."""
        pairs = zip(_tensors(self.module), _tensors(network), strict=True)
        return [
            (split_like(own, current) if is_sharded(current) else own, current)
            for own, current in pairs
        ]

    @override
    def load_state_dict(
        self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False
    ) -> object:
        """Take up an average, and how many updates it had."""
        self._count, self._pairs = None, None
        return super().load_state_dict(state_dict, strict, assign)

    def _decay_after(self, count: int) -> float:
        if not count:
            return 0.0
        if self._warmup_steps:
            return self.decay * (1 - math.exp(-count / self._warmup_steps))
        return min(self.decay, (1 + count) / (10 + count))


def _tensors(network: nn.Module) -> list[Tensor]:
    return [t.detach() for t in chain(network.parameters(), network.buffers())]
