"""Weights that FSDP has split over the processes of a run, and back to whole ones.

FSDP (its second version, `torch.distributed.fsdp.fully_shard`) keeps a slice of each weight in each
process and brings them together for a step. A slice is a `DTensor`. Where nothing is split, every
function gives back what it is given.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from accelerate import FullyShardedDataParallelPlugin
from accelerate.utils import DistributedType
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from accelerate import Accelerator

    from edgedetr.distill.networks.whole_batch import Sums


def fsdp_plugin() -> FullyShardedDataParallelPlugin | None:
    """Return the settings of FSDP where Accelerate's environment asks for it, else None.

    All weights are one group: methods use parts of a network by themselves, so that smaller groups
    would not be whole when they are used. Every process opens the models itself.

    Raises:
        UsageError: If it asks for the first version, or for what has a setting of the run or none.
    """
    if not _is_set("ACCELERATE_USE_FSDP"):
        return None
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise UsageError(
            "FSDP is supported in its second version only: start with accelerate launch "
            "--use_fsdp --fsdp_version 2"
        )
    if _is_set("FSDP_OFFLOAD_PARAMS"):
        raise UsageError("FSDP cannot leave weights on the host here: unset fsdp_offload_params")
    if _is_set("FSDP_ACTIVATION_CHECKPOINTING"):
        raise UsageError(
            "unset fsdp_activation_checkpointing and set train.checkpointing = true instead"
        )
    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="no_wrap",
        cpu_offload=False,
        activation_checkpointing=False,
        cpu_ram_efficient_loading=False,
    )


def shard_on_cpus(accelerator: Accelerator, plugin: FullyShardedDataParallelPlugin) -> None:
    """Let Accelerate use FSDP on CPUs, where it leaves it out though torch can do it."""
    if accelerator.distributed_type == DistributedType.MULTI_CPU:
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = plugin


def reduce_unused(trainee: Any) -> None:  # noqa: ANN401 - a class that FSDP makes up
    """Let weights that a process does not use in a step count as 0 there.

    Raises:
        UsageError: If this torch cannot do so.
    """
    if not hasattr(trainee, "set_reduce_scatter_unused_params"):
        raise UsageError(
            f"torch {torch.__version__} cannot leave weights unused under FSDP "
            "(set_reduce_scatter_unused_params): install a later one, or train without FSDP"
        )
    trainee.set_reduce_scatter_unused_params(True)


def is_sharded(tensor: Tensor) -> bool:
    """Tell whether a tensor is split over processes."""
    return isinstance(tensor, DTensor)


def own_slice(tensor: Tensor) -> Tensor:
    """Return what this process has of a tensor; changes of it change the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Bring a tensor together; every process must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def split_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Split a tensor that every process has as another one is."""
    if not isinstance(like, DTensor):
        return tensor
    tensor = tensor.to(own_slice(like).device)
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


@torch.no_grad()
def forget_unused(parameters: Sequence[Tensor], sums: Sums) -> None:
    """Leave out the gradients of weights that no process used, as one process does.

    These are the gradients that are 0 throughout. It reads the device.

    Args:
        parameters: The weights that train.
        sums: Adds up over the processes.
    """
    slices = [own_slice(p if p.grad is None else p.grad) for p in parameters]
    sizes = torch.stack([torch.linalg.vector_norm(some, 1) for some in slices])
    for parameter, size in zip(parameters, sums.total(sizes).tolist(), strict=True):
        if size == 0:
            parameter.grad = None


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() in {"true", "1", "yes"}
