"""Denoising queries of transformers' detectors where a pass sees a part of a batch.

How many groups there are depends on the image with the most objects, and the noise on the order of
the images: both are those of the whole batch.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

from edgedetr.distill.networks.whole_batch import current_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

NAME = "get_contrastive_denoising_training_group"
"""transformers' function, which each file of a family around RT-DETR has."""


def of_whole_batch(make: Callable[..., tuple[Any, Any, Any, Any]]) -> Callable[..., Any]:
    """Let transformers' function draw for the whole batch, and return this part's rows.

    Args:
        make: The function; it takes ``class_labels`` and ``boxes`` of each image first.
    """

    @wraps(make)
    def made(
        targets: Sequence[Mapping[str, Tensor]],
        *settings: Any,  # noqa: ANN401 - transformers' own
        **named: Any,  # noqa: ANN401
    ) -> tuple[Any, Any, Any, Any]:
        part = current_part()
        if part is None:
            return make(targets, *settings, **named)
        every = [{"class_labels": t.labels, "boxes": t.boxes} for t in part.targets]
        content, boxes, mask, about = make(every, *settings, **named)
        if about is None:
            return content, boxes, mask, about
        rows = list(part.rows)
        positive = tuple(about["dn_positive_idx"][row] for row in rows)
        return content[rows], boxes[rows], mask, {**about, "dn_positive_idx": positive}

    return made


@contextmanager
def drawn_for_whole_batch(network: nn.Module) -> Iterator[None]:
    """Let a network of transformers around RT-DETR make its denoising queries so."""
    module = sys.modules[type(network).__module__]
    if current_part() is None:
        yield
        return
    plain = getattr(module, NAME)
    setattr(module, NAME, of_whole_batch(plain))
    try:
        yield
    finally:
        setattr(module, NAME, plain)
