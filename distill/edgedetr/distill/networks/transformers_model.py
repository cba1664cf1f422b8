"""A detector of transformers from the values of a ``config.json``, fresh or with given tensors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers.utils import logging

from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from torch import Tensor, nn
    from transformers import PreTrainedConfig, PreTrainedModel

MOST_NAMED = 3
"""How many tensors a message names."""


def config_from(
    kind: type[PreTrainedConfig], values: Mapping[str, Any], num_classes: int
) -> PreTrainedConfig:
    """Return the configuration of a ``config.json``, for a number of classes.

    Raises:
        ArtifactError: If transformers refuses a value.
    """
    try:
        return kind.from_dict({**values, "num_labels": num_classes})
    except (ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(
            f"transformers refuses the config of {kind.model_type}: {reason}"
        ) from (error)


def network_from(
    kind: type[PreTrainedModel],
    config: PreTrainedConfig,
    tensors: Mapping[str, Tensor] | None,
) -> nn.Module:
    """Make a network in evaluation mode, in FP32.

    Args:
        kind: Its class.
        config: Its configuration.
        tensors: Every weight of it, by any name that transformers has had for it; what no name
            of the network's fits is left out. None gives fresh weights.

    Raises:
        ArtifactError: If tensors are missing or of another shape.
    """
    if tensors is None:
        fresh: nn.Module = kind(config).eval()
        return fresh
    with _quiet():
        network, found = kind.from_pretrained(
            None,
            config=config,
            state_dict=dict(tensors),
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    missing = sorted(found["missing_keys"])
    shapes = sorted(found["mismatched_keys"])
    count = len(network.state_dict())
    if missing:
        raise ArtifactError(
            f"the weights fill only part of the network: {len(missing)} of its {count} tensors are "
            f"missing, such as {_named(missing)}; bring the whole file"
        )
    if shapes:
        wrong = [f"{name} is {tuple(a)}, wanted {tuple(b)}" for name, a, b in shapes]
        raise ArtifactError(
            f"{len(shapes)} of {count} tensors have another shape than config.json says, such as "
            f"{_named(wrong)}; bring config.json and weights of the same model"
        )
    _hold_apart(network)
    return network  # type: ignore[no-any-return]


def _hold_apart(network: PreTrainedModel) -> None:
    """Give each tensor that is part of a larger one memory of its own, so that it can be saved."""
    for parameter in network.parameters():
        if parameter.untyped_storage().nbytes() > parameter.nbytes:
            parameter.data = parameter.data.clone()


def _named(names: Collection[str]) -> str:
    shown = list(names)[:MOST_NAMED]
    return ", ".join(shown)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from reporting what is checked here, and from drawing a bar."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
