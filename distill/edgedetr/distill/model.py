"""A detector as a value: its network and what one must know to use it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from edgedetr.distill.detectors import DetectorModule, detector
from edgedetr.runtime.errors import UnknownNameError
from edgedetr.runtime.settings import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from edgedetr.distill.detectors import (
        DetrOutputs,
        Memory,
        Pyramid,
        Queries,
        QueryDetectorModule,
        RegionAnswers,
        RegionDetectorModule,
    )
    from edgedetr.distill.networks.fake_quantization import Quantization
    from edgedetr.runtime.spec import ModelSpec


@dataclass(frozen=True, eq=False)
class Model:
    """A detector of some family.

    Methods of distillation ask a model through its functions here, so that a teacher with more
    classes, or with another order of them, answers in the student's.

    Attributes:
        family: File name under ``edgedetr.distill.detectors``.
        preset: Size within the family.
        spec: The contract of inputs and outputs.
        network: The weights.
        class_order: Which class of the network each class asked for is; empty where they are the
            same, see `with_classes`.
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
    def module(self) -> DetectorModule:
        """The functions of the family."""
        return detector(self.family)

    @property
    def num_classes(self) -> int:
        """How many classes it is asked for."""
        return len(self.class_order or self.spec.class_names)

    def with_classes(self, names: Sequence[str]) -> Model:
        """Ask for these of its classes, in this order."""
        own = self.spec.class_names
        order = () if tuple(names) == tuple(own) else tuple(own.index(name) for name in names)
        return replace(self, class_order=order)

    def encode(self, images: Tensor) -> Any:  # noqa: ANN401 - a memory or a pyramid
        """Run backbone and encoder or neck on (B, 3, H, W)."""
        return self.module.encode(self.network, images)

    def label_content(self, labels: Tensor, boxes: Tensor) -> Tensor:
        """Make the content (B, Q, D) of queries of the classes asked for."""
        if self.class_order:
            labels = labels.new_tensor(self.class_order)[labels]
        module = cast("QueryDetectorModule", self.module)
        return module.label_content(self.network, labels, boxes)

    def place_content(self, memory: Memory, boxes: Tensor) -> Tensor:
        """Make the content (B, Q, D) of queries of no class at boxes (B, Q, 4)."""
        module = cast("QueryDetectorModule", self.module)
        return module.place_content(self.network, memory, boxes)

    def decode(self, memory: Memory, queries: Queries) -> DetrOutputs:
        """Answer any queries, with every decoder layer."""
        module = cast("QueryDetectorModule", self.module)
        outputs = module.decode(self.network, memory, queries)
        if self.class_order:
            outputs = replace(outputs, logits=outputs.logits[..., list(self.class_order)])
        return outputs

    def answer_regions(self, pyramid: Pyramid, boxes: Sequence[Tensor]) -> RegionAnswers:
        """Classify and refine given boxes, xyxy in [0, 1], (n, 4) an image."""
        module = cast("RegionDetectorModule", self.module)
        answers = module.answer_regions(self.network, pyramid, boxes)
        if self.class_order:
            order = list(self.class_order)
            answers = replace(
                answers,
                logits=answers.logits[:, [0, *(1 + i for i in order)]],
                deltas=answers.deltas[:, order],
                boxes=answers.boxes[:, order],
            )
        return answers


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
