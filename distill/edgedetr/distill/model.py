"""A detector as a value: its network and what one must know to use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedetr.distill.detectors import DetectorModule, detector
from edgedetr.runtime.errors import UnknownNameError
from edgedetr.runtime.settings import nearest

if TYPE_CHECKING:
    from torch import nn

    from edgedetr.runtime.spec import ModelSpec


@dataclass(frozen=True, eq=False)
class Model:
    """A detector of some family.

    Attributes:
        family: File name under ``edgedetr.distill.detectors``.
        preset: Size within the family.
        spec: The contract of inputs and outputs.
        network: The weights.
    """

    family: str
    preset: str
    spec: ModelSpec
    network: nn.Module

    @property
    def width(self) -> int:
        """Channels of the encoder's memory and of the decoder's queries."""
        return int(self.network.config.d_model)  # type: ignore[union-attr, arg-type]

    @property
    def module(self) -> DetectorModule:
        """The functions of the family."""
        return detector(self.family)


def new_model(family: str, preset: str, spec: ModelSpec) -> Model:
    """Make a model with fresh weights.

    Raises:
        UnknownNameError: If there is no such family or preset.
    """
    module = detector(family)
    if preset not in module.PRESETS:
        raise UnknownNameError(f"no preset {preset!r} in {family}{nearest(preset, module.PRESETS)}")
    return Model(family, preset, spec, module.build(preset, len(spec.class_names)))
