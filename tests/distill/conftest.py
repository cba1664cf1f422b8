"""Small models and targets that the distillation tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from edgedetr.distill.detectors import Targets
from edgedetr.distill.model import Model, new_model
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC = ModelSpec(input_hw=(64, 96), class_names=("Car", "Pedestrian", "Cyclist"))


@pytest.fixture
def make_model() -> Callable[..., Model]:
    """Makes a small model, in evaluation mode, whose weights a seed fixes."""

    def make(family: str = "d_fine", preset: str = "edge-tiny", seed: int = 0) -> Model:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = new_model(family, preset, SPEC)
            with torch.no_grad():  # heads that start at zero would make every model answer the same
                for parameter in model.network.parameters():
                    parameter.add_(0.02 * torch.randn_like(parameter) * parameter.requires_grad)
        model.network.eval()
        return model

    return make


@pytest.fixture
def make_targets() -> Callable[..., Targets]:
    """Makes one image's truth from boxes (cxcywh); box i has class i mod 3."""

    def make(*boxes: tuple[float, float, float, float], ignored: object = ()) -> Targets:
        return Targets(
            labels=torch.arange(len(boxes)) % 3,
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            ignored=torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4),
        )

    return make


@pytest.fixture
def targets(make_targets: Callable[..., Targets]) -> list[Targets]:
    """The truth of two images: two objects and one."""
    return [
        make_targets((0.3, 0.4, 0.2, 0.3), (0.7, 0.5, 0.3, 0.4)),
        make_targets((0.5, 0.6, 0.4, 0.3)),
    ]


@pytest.fixture
def images() -> torch.Tensor:
    """Two pictures of noise at the size of `SPEC`."""
    return torch.rand(2, 3, *SPEC.input_hw, generator=torch.Generator().manual_seed(1))
