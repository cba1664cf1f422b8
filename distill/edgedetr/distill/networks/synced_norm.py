"""Batch norms whose statistics are those of the images of all processes.

torch has such a norm for GPUs alone; this one is made of differentiable sums, and runs anywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from edgedetr.distill.networks.whole_batch import current_part, summed


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that sees, in training, a whole batch of which this process has a part."""

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        if not self.training or current_part() is None:
            return super().forward(input)
        x = input.float()
        own = x.new_full((1,), x.numel() / x.shape[1])
        sums = summed(torch.cat([x.sum((0, 2, 3)), own]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = x - mean[:, None, None]
        variance = summed(centred.square().sum((0, 2, 3))) / count
        self._note(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        found = centred * scale[:, None, None] + self.bias[:, None, None]
        return found.to(input.dtype)

    @torch.no_grad()
    def _note(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, as torch does; variances are those of n - 1."""
        assert self.running_mean is not None  # noqa: S101 - all detectors' norms have them
        assert self.running_var is not None  # noqa: S101
        assert self.num_batches_tracked is not None  # noqa: S101
        self.num_batches_tracked.add_(1)
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def sync_batch_norms(network: nn.Module) -> None:
    """Let the batch norms of a network see the images of all processes, in place.

    Parameters, buffers and their names stay.
    """
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm2d
