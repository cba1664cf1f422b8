"""A detector of transformers from the values of a ``config.json``, fresh or with given tensors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers.utils import logging

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import MAX_SIDE_PX

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from torch import Tensor, nn
    from torch.nn import Parameter
    from transformers import PreTrainedConfig, PreTrainedModel

MOST_NAMED = 3
"""How many tensors a message names."""
COUNTS = ("num_queries", "num_detection_tokens")
"""Numbers of queries, which transformers takes as they are."""
SIZES = ("anchor_image_size", "image_size")
"""Sides of an input that a network prepares for when it is made."""
MOST_TENSORS = 50_000
"""Weights and biases that a network has at most, so that no config asks for millions of layers."""
SLACK, LEAST = 4, 1_000_000
"""So many times the parameters of its file may a network count while it is made, for some count
with each part that has them; and so many whatever the file holds."""


def config_from(
    kind: type[PreTrainedConfig], values: Mapping[str, Any], num_classes: int
) -> PreTrainedConfig:
    """Return the configuration of a ``config.json``, for a number of classes.

    Raises:
        ArtifactError: If transformers refuses a value, or it is no number of queries or no side.
    """
    try:
        config = kind.from_dict({**values, "num_labels": num_classes})
    except (ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(
            f"transformers refuses the config of {kind.model_type}: {reason}"
        ) from (error)
    for name in COUNTS:
        if (count := getattr(config, name, 1)) < 1:
            raise ArtifactError(
                f"the config of {kind.model_type} has {name} = {count}, wanted 1 or more"
            )
    for name in SIZES:
        sides = getattr(config, name, None) or ()
        if max(sides if isinstance(sides, (list, tuple)) else (sides,), default=0) > MAX_SIDE_PX:
            raise ArtifactError(
                f"the config of {kind.model_type} has {name} = {sides}, wanted at most "
                f"{MAX_SIDE_PX} a side"
            )
    return config


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
        ArtifactError: If no network can be made of the configuration, or tensors are missing or of
            another shape.
    """
    if tensors is None:
        with _refused(kind):
            fresh: nn.Module = kind(config).eval()
        return fresh
    with _refused(kind), bounded(sum(t.numel() for t in tensors.values())), _quiet():
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


@contextmanager
def bounded(parameters: int) -> Iterator[None]:
    """Stop networks that become much larger than their weights while they are made.

    Args:
        parameters: How many numbers the weights are.

    Raises:
        ArtifactError: Where a network has more than `SLACK` times as many, or `MOST_TENSORS`.
    """
    most = max(LEAST, SLACK * parameters)
    tensors = elements = 0

    def note(_module: nn.Module, _name: str, parameter: Parameter | None) -> None:
        nonlocal tensors, elements
        tensors += 1
        elements += 0 if parameter is None else parameter.numel()
        if tensors > MOST_TENSORS or elements > most:
            raise ArtifactError(
                f"its config asks for a network of {elements} parameters and more, and its weights "
                f"are {parameters}; bring config.json and weights of the same model"
            )

    hook = register_module_parameter_registration_hook(note)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _refused(kind: type[PreTrainedModel]) -> Iterator[None]:
    """Say in one line why no network can be made."""
    try:
        yield
    except ArtifactError:
        raise
    except Exception as error:  # what a constructor raises for odd values has no class
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ArtifactError(
            f"transformers cannot make a {kind.__name__} of its config ({reason}); bring "
            "config.json as its library wrote it"
        ) from error


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
