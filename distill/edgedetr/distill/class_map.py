"""Class maps: outputs over a network's classes become outputs over a data set's.

A class of the data set stands for one class of the network, for several, or for none that the
network knows. Then nothing the network says tells that class from background: its logit is
`UNKNOWN`, and no class loss looks at it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

UNKNOWN = -1e4
"""Logit of a class that the network does not know: a score of 0, and finite in FP16."""


@dataclass(frozen=True)
class ClassMap:
    """Which classes of a network each class of the outputs is.

    Attributes:
        groups: Indices of the network's classes for each class of the outputs; none where the
            network does not know it. No index is in two groups.
        count: How many classes the network has.
    """

    groups: tuple[tuple[int, ...], ...]
    count: int

    @property
    def known(self) -> tuple[int, ...] | None:
        """Indices of the outputs' classes that the network knows; None where it knows all."""
        found = tuple(index for index, group in enumerate(self.groups) if group)
        return None if len(found) == len(self.groups) else found

    @property
    def is_order(self) -> bool:
        """Whether each class is exactly one of the network's."""
        return all(len(group) == 1 for group in self.groups)

    @property
    def firsts(self) -> tuple[int, ...]:
        """The first of the network's classes for each class; 0 where there is none."""
        return tuple(group[0] if group else 0 for group in self.groups)

    def of_sigmoid(self, logits: Tensor) -> Tensor:
        """Map logits of independent sigmoids, (..., C) to (..., K).

        Several classes are the probability of at least one: ``1 - prod(1 - p)``.
        """
        if self.is_order:
            return logits[..., list(self.firsts)]
        columns = [_any_of(logits[..., list(group)]) for group in self.groups]
        return torch.stack(columns, -1)

    def of_softmax(self, logits: Tensor) -> Tensor:
        """Map logits of a softmax with the background first, (..., 1 + C) to (..., 1 + K).

        A class adds up the probabilities of its own, and so does the background with those of the
        network's classes that no class of the outputs is.

        >>> logits = torch.tensor([0.01, 0.04, 0.95]).log()  # background, car, truck
        >>> ClassMap(((0,),), 2).of_softmax(logits).softmax(-1)
        tensor([0.9600, 0.0400])
        >>> ClassMap(((0, 1),), 2).of_softmax(logits).softmax(-1)
        tensor([0.0100, 0.9900])
        """
        taken = {index for group in self.groups for index in group}
        background = [0, *(1 + i for i in range(self.count) if i not in taken)]
        sets = [background, *([1 + i for i in group] for group in self.groups)]
        return torch.stack([_sum_of(logits[..., columns]) for columns in sets], -1)

    def of_boxes(self, boxes: Tensor, logits: Tensor) -> Tensor:
        """Map what each class has of its own, (N, C, 4) to (N, K, 4).

        Several classes have the mean by their probabilities; a class that the network does not
        know has zeros.

        Args:
            boxes: Boxes or deltas.
            logits: Of the network's softmax, background first, (N, 1 + C).
        """
        if self.is_order:
            return boxes[:, list(self.firsts)]
        mapped = []
        for group in self.groups:
            shares = logits[:, [1 + i for i in group]].softmax(-1)
            mapped.append((shares.unsqueeze(-1) * boxes[:, list(group)]).sum(1))
        return torch.stack(mapped, 1)


def without_unknown(logits: Tensor, known: tuple[int, ...] | None) -> Tensor:
    """Add classes that a teacher does not know to the background, (N, 1 + K) to (N, 1 + known).

    Args:
        logits: Of a softmax, background first: the student's or the teacher's.
        known: What `ClassMap.known` says of the teacher.
    """
    if known is None:
        return logits
    unknown = [c for c in range(logits.shape[-1] - 1) if c not in known]
    background = _sum_of(logits[..., [0, *(1 + c for c in unknown)]])
    return torch.cat([background.unsqueeze(-1), logits[..., [1 + c for c in known]]], -1)


def only_known(logits: Tensor, known: tuple[int, ...] | None) -> Tensor:
    """Take the columns of sigmoid logits (..., K) that a teacher knows."""
    return logits if known is None else logits[..., list(known)]


def _any_of(logits: Tensor) -> Tensor:
    """Return the logit of ``1 - prod(1 - p)``: with S the sum of softplus(z), log(exp(S) - 1)."""
    if logits.shape[-1] == 0:
        return logits.new_full(logits.shape[:-1], UNKNOWN)
    if logits.shape[-1] == 1:
        return logits[..., 0]
    total = torch.nn.functional.softplus(logits.float()).sum(-1)
    total = total.clamp(min=torch.finfo(total.dtype).tiny)
    return (total + (-torch.expm1(-total)).log()).to(logits.dtype)


def _sum_of(logits: Tensor) -> Tensor:
    if logits.shape[-1] == 0:
        return logits.new_full(logits.shape[:-1], UNKNOWN)
    return logits[..., 0] if logits.shape[-1] == 1 else logits.logsumexp(-1)
