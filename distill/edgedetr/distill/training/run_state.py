"""What an interrupted run resumes from: weights, average, optimizer and epoch."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from edgedetr.distill.training.sharding import split_like, whole
from edgedetr.distill.weights.tensor_file import tensor_path
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from edgedetr.distill.training.averaging import MovingAverage
    from edgedetr.distill.training.distillation_model import Trainee
    from edgedetr.distill.training.run_identity import RunIdentity

_SETTINGS, _SOURCES, _EPOCH, _STEP = "settings", "sources", "epoch", "step"
_SCALER = "scaler"
_AWAY = "choose another --out, or remove it to start anew"


class Progress(NamedTuple):
    """How far a run has come.

    Attributes:
        epochs: Whole epochs.
        steps: Steps of the epoch after them.
    """

    epochs: int
    steps: int = 0


@dataclass(frozen=True, eq=False)
class RunState:
    """The parts of a run that change.

    Attributes:
        trainee: Student and adapters.
        average: The moving average of the student.
        optimizer: The optimizer over the trainee.
        identity: What decides the run's result; a state belongs to one run.
        epochs: How many epochs the run has.
        scaler: Scales the loss in FP16; does nothing otherwise.
    """

    trainee: Trainee
    average: MovingAverage
    optimizer: torch.optim.Optimizer
    identity: RunIdentity
    epochs: int
    scaler: torch.amp.GradScaler = field(
        default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False)
    )

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the state, whole; where they are split, all processes must ask."""
        self.average.gather()
        tensors = self._weights()
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in moments.items()}
        return {k: whole(v.detach()) for k, v in tensors.items()}

    def save(self, path: Path, done: Progress, tensors: Mapping[str, Tensor]) -> None:
        """Write the state after what is done, whole or not at all.

        Raises:
            OSError: If it cannot be written; it names ``path``.
        """
        own = {k: v.cpu().clone() for k, v in tensors.items()}
        metadata = {
            _SCALER: json.dumps(self.scaler.state_dict()),
            _SETTINGS: json.dumps(self.identity.settings),
            _SOURCES: json.dumps(self.identity.sources),
            _EPOCH: str(done.epochs),
            _STEP: str(done.steps),
        }
        with tensor_path(path) as temporary:
            save_file(own, temporary, metadata)

    def load(self, path: Path) -> Progress:
        """Load a saved state; return what was done when it was saved.

        Raises:
            ArtifactError: If the file is damaged, or belongs to a run of other settings or that
                learns from something else; nothing was loaded then.
        """
        try:
            with safe_open(os.fspath(path), framework="pt") as file:
                metadata = file.metadata() or {}
                done = self._checked(path, metadata)
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - no dict
        except (SafetensorError, OSError) as error:
            raise ArtifactError(
                f"{path} is no readable state of a run: {error}; remove it to start anew, or "
                "put an older one (state.1.safetensors), where there is one, in its place"
            ) from error
        problem = self._problem(tensors)
        if problem:
            raise ArtifactError(f"{path} is no state of this run: {problem}; {_AWAY}")
        like = self.trainee.state_dict()
        weights = _part(tensors, "trainee.")
        self.trainee.load_state_dict({k: split_like(v, like[k]) for k, v in weights.items()})
        self.average.load_state_dict(_part(tensors, "average."))
        self._load_optimizer(_part(tensors, "optimizer."))
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(json.loads(metadata[_SCALER]))
        return done

    def _checked(self, path: Path, metadata: Mapping[str, str]) -> Progress:
        """Compare what the file says of its run; return what was done."""
        try:
            settings, sources = (json.loads(metadata[k]) for k in (_SETTINGS, _SOURCES))
            done = Progress(int(metadata[_EPOCH]), int(metadata.get(_STEP, "0")))
            other = self.identity.difference(settings, sources)
        except (KeyError, ValueError, AttributeError, TypeError, RecursionError) as error:
            raise ArtifactError(
                f"{path} is no state of a run that this version wrote ({type(error).__name__}: "
                f"{error}); {_AWAY}"
            ) from error
        if other:
            raise ArtifactError(f"{path} is an unfinished run of another config ({other}); {_AWAY}")
        if not (0, 0) < done <= (self.epochs, 0) or done.steps < 0:
            within = f" and {done.steps} steps" * bool(done.steps)
            raise ArtifactError(
                f"{path} says epoch {done.epochs}{within} of {self.epochs}; {_AWAY}"
            )
        return done

    def _weights(self) -> dict[str, Tensor]:
        tensors = {f"trainee.{k}": v for k, v in self.trainee.state_dict().items()}
        return tensors | {f"average.{k}": v for k, v in self.average.state_dict().items()}

    def _problem(self, tensors: Mapping[str, Tensor]) -> str:
        """Tell in what the tensors of a file differ from those of this run; empty if in nothing."""
        wanted = self._weights() | self._moments(tensors)
        for key in sorted({*wanted, *tensors}):
            found, own = (_kind(part, key) for part in (tensors, wanted))
            if found != own:
                return f"{key} is {found}, wanted {own}"
            if not _is_finite(tensors[key]) and _is_finite(wanted[key]):
                return f"{key} is not finite"
        return ""

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _moments(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors like those that the optimizer has of each parameter that a file names."""
        parameters = self._parameters()
        named = {key.split(".")[1] for key in tensors if key.startswith("optimizer.")}
        like: dict[str, Tensor] = {}
        for index in named & {str(i) for i in range(len(parameters))}:
            parameter = parameters[int(index)]
            like |= {f"optimizer.{index}.{name}": parameter for name in ("exp_avg", "exp_avg_sq")}
            like[f"optimizer.{index}.step"] = torch.zeros(())
        return like

    def _load_optimizer(self, tensors: dict[str, Tensor]) -> None:
        moments: dict[int, dict[str, Tensor]] = {}
        parameters = self._parameters()
        for key, value in tensors.items():
            index, _, name = key.partition(".")
            split = split_like(value, parameters[int(index)]) if value.ndim else value
            moments.setdefault(int(index), {})[name] = split
        fresh = self.optimizer.state_dict()
        self.optimizer.load_state_dict({**fresh, "state": moments})


def _kind(tensors: Mapping[str, Tensor], key: str) -> str:
    if key not in tensors:
        return "missing"
    tensor = tensors[key]
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
