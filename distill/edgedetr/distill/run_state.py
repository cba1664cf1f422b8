"""What a killed run needs to go on with the same result: weights, average, optimizer, place."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from edgedetr.distill.averaging import MovingAverage
    from edgedetr.distill.trainee import Trainee


@dataclass(frozen=True, eq=False)
class RunState:
    """The parts of a run that change.

    Attributes:
        trainee: Student and adapters.
        average: The moving average of the student.
        optimizer: The optimizer over the trainee.
        config: The run's settings as text; a state belongs to one config.
    """

    trainee: Trainee
    average: MovingAverage
    optimizer: torch.optim.Optimizer
    config: str

    def save(self, path: Path, epoch: int) -> None:
        """Write the state after ``epoch`` epochs, whole or not at all."""
        tensors = {f"trainee.{k}": v for k, v in self.trainee.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in moments.items()}
        own = {k: v.detach().cpu().clone() for k, v in tensors.items()}
        with atomic_path(path) as temporary:
            save_file(own, os.fspath(temporary), {"config": self.config, "epoch": str(epoch)})

    def load(self, path: Path) -> int:
        """Take up a saved state; return after how many epochs it was saved.

        Raises:
            ArtifactError: If the file is damaged or belongs to another config.
        """
        try:
            with safe_open(os.fspath(path), framework="pt") as file:
                metadata = file.metadata()
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - no dict
        except (SafetensorError, OSError) as error:
            raise ArtifactError(
                f"{path} is no readable state of a run: {error}; remove it to start anew"
            ) from error
        if metadata["config"] != self.config:
            other = difference_of(metadata["config"], self.config)
            raise ArtifactError(
                f"{path} is an unfinished run of another config{other}; "
                "choose another --out, or remove it to start anew"
            )
        self.trainee.load_state_dict(_part(tensors, "trainee."))
        self.average.load_state_dict(_part(tensors, "average."))
        self._load_optimizer(_part(tensors, "optimizer."))
        return int(metadata["epoch"])

    def _load_optimizer(self, tensors: dict[str, Tensor]) -> None:
        moments: dict[int, dict[str, Any]] = {}
        for key, value in tensors.items():
            index, _, name = key.partition(".")
            moments.setdefault(int(index), {})[name] = value
        fresh = self.optimizer.state_dict()
        self.optimizer.load_state_dict({**fresh, "state": moments})


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def difference_of(found: str, wanted: str) -> str:
    """Name the first setting that differs between two configs (JSON), as part of a message."""
    a, b = _flat(json.loads(found)), _flat(json.loads(wanted))
    keys = [k for k in sorted({*a, *b}) if a.get(k) != b.get(k)]
    return f" ({keys[0]} was {a.get(keys[0])!r}, is {b.get(keys[0])!r})" if keys else ""


def _flat(tables: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name every value of nested tables as ``table.key``."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat
