"""A detector as a value: its network and what one must know to use it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from edgedetr.distill.detectors import DetectorModule, detector
from edgedetr.runtime.errors import UnknownNameError
from edgedetr.runtime.settings import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from edgedetr.distill.detectors import QueryDetectorModule, RegionDetectorModule
    from edgedetr.distill.networks.fake_quantization import Quantization
    from edgedetr.distill.types import (
        DetrOutputs,
        Features,
        Losses,
        Memory,
        Pyramid,
        Queries,
        RegionOutputs,
        Regions,
        Targets,
    )
    from edgedetr.runtime.spec import ModelSpec


@dataclass(frozen=True, eq=False)
class Model:
    """A detector of some family.

    Methods of distillation call a model through its functions here, so that the outputs of a
    teacher with more classes, or with another order of them, are in the student's.

    Attributes:
        family: File name under ``edgedetr.distill.detectors``.
        preset: Size within the family.
        spec: The contract of inputs and outputs.
        network: The weights.
        class_order: Which class of the network each class of the outputs is; empty where they are
            the same, see `with_classes`.
        quantization: How its INT8 export rounds, where it was trained for that; its own functions
            compute in float, see `edgedetr.distill.networks.fake_quantization.simulated`.
    """

    family: str
    preset: str
    spec: ModelSpec
    network: nn.Module
    class_order: tuple[int, ...] = ()
    quantization: Quantization | None = None

    @property
    def width(self) -> int:
        """Channels of the levels of its memory or pyramid."""
        return self.module.width(self.network)

    @property
    def embedding_width(self) -> int:
        """Channels of a region's embedding."""
        return self.module.embedding_width(self.network)

    @property
    def anchor_kinds(self) -> int:
        """How many anchors a cell has: what `Regions.kinds` stays below."""
        return self.module.anchor_kinds(self.network)

    @property
    def module(self) -> DetectorModule:
        """The functions of the family."""
        return detector(self.family)

    @property
    def num_classes(self) -> int:
        """How many classes its outputs have."""
        return len(self.class_order or self.spec.class_names)

    def with_classes(self, names: Sequence[str]) -> Model:
        """Return the model with outputs for these of its classes, in this order."""
        own = self.spec.class_names
        order = () if tuple(names) == tuple(own) else tuple(own.index(name) for name in names)
        return replace(self, class_order=order)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Detect in (B, 3, H, W): logits (B, Q, K) and boxes (B, Q, 4), cxcywh in [0, 1]."""
        logits, boxes = self.module.predict(self.network, images)
        if self.class_order:
            logits = logits[..., list(self.class_order)]
        return logits, boxes

    def training_pass(self, images: Tensor, targets: Sequence[Targets]) -> tuple[Losses, Features]:
        """Return the weighted detection losses of (B, 3, H, W), and the memory they came from.

        The classes are the network's own, whatever `with_classes` chose.
        """
        return self.module.training_pass(self.network, images, targets)

    def encode(self, images: Tensor) -> Features:
        """Run backbone and encoder or neck on (B, 3, H, W)."""
        return self.module.encode(self.network, images)

    def regions(self, memory: Features) -> Regions:
        """Return the boxes that the model finds on its own memory or pyramid."""
        return self.module.regions(self.network, memory)

    def label_content(self, labels: Tensor, boxes: Tensor) -> Tensor:
        """Make the content (B, Q, D) of queries of the outputs' classes."""
        if self.class_order:
            labels = labels.new_tensor(self.class_order)[labels]
        module = cast("QueryDetectorModule", self.module)
        return module.label_content(self.network, labels, boxes)

    def place_content(self, memory: Memory, boxes: Tensor) -> Tensor:
        """Make the content (B, Q, D) of queries of no class at boxes (B, Q, 4)."""
        module = cast("QueryDetectorModule", self.module)
        return module.place_content(self.network, memory, boxes)

    def decode(self, memory: Memory, queries: Queries) -> DetrOutputs:
        """Decode any queries, with every decoder layer."""
        module = cast("QueryDetectorModule", self.module)
        outputs = module.decode(self.network, memory, queries)
        if self.class_order:
            outputs = replace(outputs, logits=outputs.logits[..., list(self.class_order)])
        return outputs

    def classify_regions(self, pyramid: Pyramid, boxes: Sequence[Tensor]) -> RegionOutputs:
        """Classify and refine given boxes, xyxy in [0, 1], (n, 4) an image."""
        module = cast("RegionDetectorModule", self.module)
        outputs = module.classify_regions(self.network, pyramid, boxes)
        if self.class_order:
            order = list(self.class_order)
            outputs = replace(
                outputs,
                logits=outputs.logits[:, [0, *(1 + i for i in order)]],
                deltas=outputs.deltas[:, order],
                boxes=outputs.boxes[:, order],
            )
        return outputs


def new_model(family: str, preset: str, spec: ModelSpec) -> Model:
    """Make a model with fresh weights.

    Raises:
        UnknownNameError: If there is no such family or preset.
    """
    module = family_with(preset, family)
    return Model(family, preset, spec, module.build(preset, len(spec.class_names)))


def family_with(preset: str, family: str) -> DetectorModule:
    """Return the module of a family that has a preset.

    Raises:
        UnknownNameError: If there is no such family or preset.
    """
    module = detector(family)
    if preset not in module.PRESETS:
        raise UnknownNameError(f"no preset {preset!r} in {family}{nearest(preset, module.PRESETS)}")
    return module
