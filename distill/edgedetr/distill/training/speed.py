"""What makes a network faster or smaller in training: compiled, channels last, checkpointed."""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm

from edgedetr.distill.networks.backbones import backbone_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from edgedetr.distill.step_config import StepConfig


def set_up(student: nn.Module, teacher: nn.Module | None, config: StepConfig) -> None:
    """Prepare the networks of a run, on their device, as its settings say; weights stay.

    Where torch finds no compiler, one line says so and nothing is compiled.

    Args:
        student: Trains.
        teacher: Frozen; None where there is none.
        config: What is wanted.
    """
    networks = [network for network in (student, teacher) if network is not None]
    if config.channels_last:
        for network in networks:
            network.to(memory_format=torch.channels_last)
    if config.checkpointing:
        checkpoint_stages(student)
    if config.compile:
        compile_backbones(networks)


def checkpoint_stages(network: nn.Module) -> None:
    """Let the stages of a network's backbone be computed again in the backward pass.

    Their gradients and statistics are the same. Memory holds the outputs of stages alone.
    """
    for stage in stages_of(backbone_of(network)):
        stage.forward = partial(_checkpointed, stage, stage.forward)


def stages_of(backbone: nn.Module) -> list[nn.Module]:
    """Return the stages of a backbone, or the blocks of a vision transformer, from the first on."""
    layers = [child for name, child in backbone.named_children() if name.startswith("layer")]
    lists = [m for n, m in backbone.named_modules() if n.rpartition(".")[2] in {"stages", "layer"}]
    if not lists:
        return [child for child in layers if not isinstance(child, nn.ModuleList)]
    return list(lists[0].children())


def _checkpointed(stage: nn.Module, plain: Any, *inputs: Any, **named: Any) -> Any:  # noqa: ANN401
    if not (stage.training and torch.is_grad_enabled()):
        return plain(*inputs, **named)
    contexts = partial(_contexts, stage)
    return checkpoint(plain, *inputs, use_reentrant=False, context_fn=contexts, **named)


def _contexts(
    stage: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _kept_statistics(stage)


@contextmanager
def _kept_statistics(stage: nn.Module) -> Iterator[None]:
    """Keep what batch norms have seen: computing again shows them the same images once more."""
    norms = [m for m in stage.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [(norm.momentum, _tracked(norm)) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, before, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and tracked is not None:
                norm.num_batches_tracked.copy_(tracked)


def _tracked(norm: nn.BatchNorm2d) -> Tensor | None:
    counter = norm.num_batches_tracked
    return None if counter is None else counter.clone()


def compile_backbones(networks: Sequence[nn.Module]) -> None:
    """Compile the backbones of networks; names of weights stay."""
    backbones = [backbone_of(network) for network in networks]
    device = next(backbones[0].parameters()).device
    try:
        torch.compile(torch.nn.functional.relu)(torch.zeros(8, device=device) - 1)
    except Exception as error:
        said = str(error).strip() or type(error).__name__
        tqdm.write(
            f"train.compile: torch.compile does not work here ({said.splitlines()[0]}); nothing is "
            "compiled",
            file=sys.stderr,
        )
        return
    for backbone in backbones:
        backbone.compile()
