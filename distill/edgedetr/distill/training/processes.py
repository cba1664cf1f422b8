"""The processes of a run, as Accelerate starts them: what they tell each other beside gradients."""

from __future__ import annotations

import os
import warnings
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    InitProcessGroupKwargs,
)
from torch import distributed
from torch.nn.utils import clip_grad_norm_

from edgedetr.distill.networks.synced_norm import sync_batch_norms
from edgedetr.distill.training.batch_parts import RankSums
from edgedetr.distill.training.sampling import Share
from edgedetr.distill.training.sharding import (
    forget_unused,
    fsdp_plugin,
    reduce_unused,
    shard_on_cpus,
    whole,
)
from edgedetr.runtime.errors import EdgeDetrError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn
    from torch.distributed import ProcessGroup
    from torch.optim import Optimizer

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others before it gives up."""

_PARALLEL = (
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
    DistributedType.FSDP,
)
"""Processes share batches, and with FSDP the weights between steps."""

_SPLIT = ("DEEPSPEED", "MEGATRON_LM")
"""What Accelerate may be told in its environment, and leaves out where it cannot do it."""


@dataclass(frozen=True, eq=False)
class Processes:
    """This process among those of a run.

    Attributes:
        accelerator: Holds the device.
        share: Which process this one is.
        sums: Adds up figures of a loss over the processes; None where there is one.
        host: The group over which the processes tell each other what is no tensor.
        is_sharded: Whether weights, gradients and the optimizer's state are split over them.
    """

    accelerator: Accelerator
    share: Share
    sums: RankSums | None = None
    host: ProcessGroup | None = None
    is_sharded: bool = False

    def place(self, *networks: nn.Module) -> None:
        """Move networks to the device of this process."""
        for network in networks:
            network.to(self.accelerator.device)

    def prepared(self, trainee: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Let the processes train a module together: gradients and batch norms see all images.

        Args:
            trainee: On its device.
            optimizer: Of its weights.
        """
        if self.sums is not None:
            sync_batch_norms(trainee)
        prepared, optimizer = self.accelerator.prepare(trainee, optimizer)
        if self.is_sharded:
            reduce_unused(prepared)
        return prepared, optimizer

    def clipped(self, parameters: list[Tensor], most: float) -> Tensor:
        """Scale gradients down to a norm; return the norm of all of them before."""
        if self.is_sharded and self.sums is not None:
            forget_unused(parameters, self.sums)
            return whole(clip_grad_norm_(parameters, most))
        norm: Tensor = self.accelerator.clip_grad_norm_(parameters, most)
        return norm

    @property
    def is_main(self) -> bool:
        """Whether this one writes the run's files."""
        return self.share.index == 0

    def every(self, value: T) -> list[T]:
        """Return the values of all processes, in turn."""
        if self.share.count == 1:
            return [value]
        found: list[Any] = [None] * self.share.count
        distributed.all_gather_object(found, value, self.host)
        return found

    def every_of(self, make: Callable[[], T]) -> list[T]:
        """Return what a function gives in each process, in turn.

        Raises:
            EdgeDetrError: What it raises in the first process in which it fails; the others end
                without a word.
            OSError: Likewise.
        """
        return self._agreed(make, range(self.share.count))

    def from_main(self, make: Callable[[], T]) -> T:
        """Return what a function gives in the first process, in all of them; as `every_of`."""
        return self._agreed(make, range(1))[0]

    def _agreed(self, make: Callable[[], T], chosen: range) -> list[T]:
        if self.share.count == 1:
            return [make()]
        value: T | None = None
        error: Exception | None = None
        if self.share.index in chosen:
            try:
                value = make()
            except (EdgeDetrError, OSError) as raised:
                error = raised
        found = self.every((value, error is not None))
        failed = [index for index, (_, is_wrong) in enumerate(found) if is_wrong]
        if failed:
            raise error if error is not None and failed[0] == self.share.index else SystemExit(1)
        return [cast("T", value) for value, _ in found[: len(chosen)]]


@contextmanager
def processes_of_run() -> Iterator[Processes]:
    """Join the processes of a run; only the first one prints.

    Raises:
        UsageError: If they were started to split the model in a way that is not supported.
        EdgeDetrError: If another process ended meanwhile.
    """
    wanted = [n for n in _SPLIT if os.environ.get(f"ACCELERATE_USE_{n}", "").lower() == "true"]
    if wanted:
        raise _split(wanted[0])
    # a machine without an accelerator counts as one process where Accelerate is not told so
    plugin = fsdp_plugin()
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=TIMEOUT),
            # an image without objects leaves parts of a network without gradient
            DistributedDataParallelKwargs(find_unused_parameters=True),
        ],
        fsdp_plugin=plugin,
    )
    if plugin is not None:
        shard_on_cpus(accelerator, plugin)
    if accelerator.distributed_type not in _PARALLEL:
        raise _split(accelerator.distributed_type.value)
    share = Share(accelerator.process_index, accelerator.num_processes)
    if share.count == 1:
        if accelerator.distributed_type == DistributedType.FSDP:
            raise UsageError("FSDP splits weights over processes, and this is the only one")
        yield Processes(accelerator, share)
        return
    host = _group("gloo")
    sums = RankSums(_group(None), host)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="Grad strides do not match")  # channels last
        # FSDP asks for no change in place of the losses that it is given back; none is made
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
        if share.index:
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        stack.enter_context(_lost_process())
        yield Processes(accelerator, share, sums, host, is_sharded=plugin is not None)


def _group(backend: str | None) -> ProcessGroup:
    """Return a group of all processes; None is the backend of their devices."""
    group = distributed.new_group(backend=backend, timeout=TIMEOUT)
    assert not isinstance(group, int)  # noqa: S101 - this process is in it
    return group


def _split(kind: str) -> UsageError:
    return UsageError(
        f"{kind} is not supported: the processes of a run split its batches, and with FSDP its "
        "weights; use accelerate launch --multi_gpu, --use_fsdp or --cpu, or torchrun"
    )


@contextmanager
def _lost_process() -> Iterator[None]:
    """Report in one line that the processes cannot reach one another any more."""
    try:
        yield
    except (distributed.DistError, RuntimeError) as error:
        if not _is_of_connection(error):
            raise
        raise EdgeDetrError(
            "another process of this run ended, or did not answer for "
            f"{TIMEOUT.total_seconds() / 60:.0f} minutes ({str(error).splitlines()[0].strip()}); "
            "start the same command again: it goes on from the last state"
        ) from error


def _is_of_connection(error: BaseException) -> bool:
    words = ("gloo", "nccl", "connection", "timed out", "timeout", "process group", "peer")
    return isinstance(error, distributed.DistError) or any(w in str(error).lower() for w in words)
