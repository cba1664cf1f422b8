"""Contrast of a student's region embeddings with its teacher's, now and of earlier batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from edgedetr.distill.networks import whole_batch
from edgedetr.distill.networks.precision import in_float32


class RegionContrast(nn.Module):
    """Contrastive distillation of regions (Yao et al., ICCV 2021, section 3.3).

    A student's embedding of a region is to be more like the teacher's of the same region than like
    any other: InfoNCE over the regions of the batch and a queue of the latest ones before. The
    teacher's embeddings are taken as they are; the student's go through a linear layer, one for
    each kind of anchor that a cell has.

    Args:
        width: Channels of the student's embeddings.
        target_width: Channels of the teacher's.
        kinds: Kinds of anchors.
        length: Embeddings in the queue; part of the state, so that a resumed run goes on with it.
    """

    def __init__(self, width: int, target_width: int, kinds: int, length: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, kinds * target_width, bias=False)
        self.kinds = kinds
        self.queue: Tensor
        self.place: Tensor
        self.filled: Tensor
        self.register_buffer("queue", torch.zeros(length, target_width))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def projected(self, embeddings: Tensor, kinds: Tensor) -> Tensor:
        """Return the student's embeddings (P, width) by each one's layer, of length 1."""
        every = self.projection(embeddings).unflatten(1, (self.kinds, -1))
        own = every[torch.arange(len(kinds), device=kinds.device), kinds]
        return F.normalize(own, dim=1)

    @override
    @in_float32
    def forward(
        self,
        student: tuple[Tensor, Tensor],
        target: Tensor,
        positive: Tensor,
        alike: Tensor,
        temperature: float,
    ) -> Tensor:
        """Return the mean loss of the positive regions; in training, queue the teacher's.

        The regions of all processes are negatives of one another, and come into the queue alike.

        Args:
            student: The student's embeddings (N, width) and their anchors' kinds (N,).
            target: The teacher's embeddings of the same regions, (N, target_width).
            positive: Which regions have a loss, (N,); the others only serve as negatives.
            alike: Regions too much like a positive one to be its negatives, (P, N).
            temperature: Divides the cosines.
        """
        own = positive.nonzero().flatten()
        mine = self.projected(*(x[own] for x in student))
        theirs, first = whole_batch.gathered(F.normalize(target.detach(), dim=1))
        alike = F.pad(alike, (first, len(theirs) - first - len(target)))
        used = torch.arange(len(self.queue), device=own.device) < self.filled
        loss = info_nce(
            mine @ torch.cat([theirs, self.queue]).T / temperature,
            first + own,
            torch.cat([alike, ~used.expand(len(own), -1)], dim=1),
        )
        if self.training:
            self._enqueue(theirs)
        return loss

    def _enqueue(self, embeddings: Tensor) -> None:
        """Replace the oldest of the queue."""
        length = len(self.queue)
        latest = embeddings[:length].to(self.queue.dtype)
        rows = torch.arange(len(latest), device=latest.device)
        self.queue[(self.place + rows) % length] = latest
        self.place.copy_((self.place + len(latest)) % length)
        self.filled.copy_((self.filled + len(latest)).clamp(max=length))


def info_nce(scores: Tensor, own: Tensor, left_out: Tensor) -> Tensor:
    """Return the mean over rows of ``-log(exp(own) / sum exp(own and negatives))``, at least 0.

    Rows of the whole batch are counted.

    Args:
        scores: Of each row's own and of all candidates, (P, M).
        own: The column of each row's own, (P,); it always counts.
        left_out: Columns that are no negatives of a row, (P, M).
    """
    columns = torch.arange(scores.shape[1], device=scores.device)
    left_out = left_out & (columns != own[:, None])
    kept = scores.masked_fill(left_out, -torch.inf)
    return F.cross_entropy(kept, own, reduction="sum") / max(1, whole_batch.count(len(own)))
