"""Capture the call of a detection transformer's decoder, and mask the queries of another one."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch

from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from edgedetr.distill.types import Queries


@contextmanager
def decoder_call(decoder: nn.Module, *, stop: bool = False) -> Iterator[dict[str, Any]]:
    """Give the keywords that a decoder is called with inside the block, once it has been called.

    Args:
        decoder: Called with keywords alone.
        stop: Whether the block ends in front of the decoder, which then does not run.
    """
    captured: dict[str, Any] = {}

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if args:
            raise RuntimeError("the decoder was called with positional arguments")
        captured.update(kwargs)
        if stop:
            raise _DecoderReachedError

    handle = decoder.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        with suppress(_DecoderReachedError):
            yield captured
    finally:
        handle.remove()


@contextmanager
def outputs_of(module: nn.Module) -> Iterator[list[Any]]:
    """Collect what a module returns inside the block."""
    seen: list[Any] = []
    handle = module.register_forward_hook(lambda _, __, outputs: seen.append(outputs))
    try:
        yield seen
    finally:
        handle.remove()


def require_cells(queries: int, _: nn.Module, args: tuple[Tensor, ...]) -> None:
    """Refuse an input whose encoder has fewer cells (B, P, D) than a model chooses queries.

    A forward pre-hook of the module that looks at the cells first.

    Raises:
        UsageError: With both numbers.
    """
    cells = args[0].shape[1]
    if cells < queries:
        raise UsageError(
            f"the model chooses its {queries} queries among the encoder's cells, and this input "
            f"has {cells}; choose a larger input, or a preset with fewer queries"
        )


def self_attention_mask(queries: Queries) -> Tensor:
    """Return (B, 1, Q, Q): 0 where a slot may attend, -inf elsewhere; every slot sees itself."""
    batch, count = queries.valid.shape
    group = torch.arange(count, device=queries.valid.device) // (count // queries.groups)
    may_look = (group[:, None] == group) & queries.valid[:, None, :]
    may_look = may_look | torch.eye(count, dtype=torch.bool, device=may_look.device)
    mask = torch.zeros((batch, count, count), dtype=queries.boxes.dtype, device=may_look.device)
    return mask.masked_fill(~may_look, -torch.inf).unsqueeze(1)


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Return the logit of x in [0, 1], finite at both ends."""
    return torch.logit(x, eps=eps)


class _DecoderReachedError(Exception):
    """Stops a forward pass in front of the decoder."""
