"""A detector as a value: its network and what one must know to use it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch

from edgedetr.distill.class_map import ClassMap
from edgedetr.distill.detectors import DetectorModule, detector, is_importable, trains
from edgedetr.distill.types import into_frame, out_of_frame
from edgedetr.runtime.errors import UnknownNameError, UsageError
from edgedetr.runtime.settings import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from edgedetr.distill.detectors import (
        DenseDetectorModule,
        ImportableModule,
        QueryDetectorModule,
        RegionDetectorModule,
    )
    from edgedetr.distill.networks.fake_quantization import Quantization
    from edgedetr.distill.types import (
        CellOutputs,
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


IMPORTED = "imported"
"""The preset of a model whose size is no preset's: an `Architecture` says what it is."""


@dataclass(frozen=True)
class Architecture:
    """What an imported network is made of.

    Attributes:
        config: The values of its ``config.json``.
        rows: How many rows its class heads have.
        class_rows: Which row each class of the spec has; empty where each has the row of its index.
        query_fade: Whether its predictions have the query fade, see
            `edgedetr.distill.networks.query_fade`; the library that it comes from has none.
    """

    config: dict[str, Any]
    rows: int
    class_rows: tuple[int, ...] = ()
    query_fade: bool = False

    def for_classes(self, count: int) -> Architecture:
        """Return the same for other classes, so many, each with a row."""
        return replace(self, rows=count, class_rows=())


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
        class_map: Which classes of the network each class of the outputs is; None where they are
            the same, see `with_classes`.
        quantization: How its INT8 export rounds, where it was trained for that; its own functions
            compute in float, see `edgedetr.distill.networks.fake_quantization.simulated`.
        architecture: What an imported network is made of; None for the network of a preset.
    """

    family: str
    preset: str
    spec: ModelSpec
    network: nn.Module
    class_map: ClassMap | None = None
    quantization: Quantization | None = None
    architecture: Architecture | None = None

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
        return len(self.class_map.groups if self.class_map else self.spec.class_names)

    @property
    def known_classes(self) -> tuple[int, ...] | None:
        """Indices of the outputs' classes that the network knows; None where it knows all."""
        return self.class_map.known if self.class_map else None

    @property
    def rows(self) -> ClassMap | None:
        """Which rows of the class heads each class of the outputs is; None where they are all."""
        architecture = self.architecture
        if architecture is None or not architecture.class_rows:
            return self.class_map
        rows = architecture.class_rows
        groups = self.class_map.groups if self.class_map else [(i,) for i in range(len(rows))]
        in_rows = tuple(tuple(rows[i] for i in group) for group in groups)
        return ClassMap(in_rows, architecture.rows)

    def with_classes(self, names: Sequence[str | Sequence[str]]) -> Model:
        """Return the model with outputs for these of its classes, in this order.

        Args:
            names: The model's name of each class of the outputs, or its names: the class is then
                any of them, and none of its classes where there is no name.
        """
        own = self.spec.class_names
        lists = [(name,) if isinstance(name, str) else tuple(name) for name in names]
        if lists == [(name,) for name in own]:
            return replace(self, class_map=None)
        groups = tuple(tuple(own.index(name) for name in some) for some in lists)
        return replace(self, class_map=ClassMap(groups, len(own)))

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Detect in (B, 3, H, W): logits (B, Q, K) and boxes (B, Q, 4), cxcywh in [0, 1]."""
        logits, boxes = self.module.predict(self.network, images)
        return self.rows.of_sigmoid(logits) if self.rows else logits, boxes

    def training_pass(self, images: Tensor, targets: Sequence[Targets]) -> tuple[Losses, Features]:
        """Return the weighted detection losses of (B, 3, H, W), and the memory they came from.

        The classes are those of the spec, whatever `with_classes` chose.
        """
        if self.architecture and self.architecture.class_rows:
            rows = self.architecture.class_rows
            targets = [replace(t, labels=t.labels.new_tensor(rows)[t.labels]) for t in targets]
        return self.module.training_pass(self.network, images, targets)

    def encode(self, images: Tensor) -> Features:
        """Run backbone and encoder or neck on (B, 3, H, W)."""
        return self.module.encode(self.network, images)

    def regions(self, memory: Features) -> Regions:
        """Return the boxes that the model finds on its own memory or pyramid."""
        return self.module.regions(self.network, memory)

    def label_content(self, labels: Tensor, boxes: Tensor) -> Tensor:
        """Make the content (B, Q, D) of queries of the outputs' classes.

        A class that is several of the network's gets the content of the first; that of one that
        the network does not know means nothing.
        """
        if self.rows:
            labels = labels.new_tensor(self.rows.firsts)[labels]
        module = cast("QueryDetectorModule", self.module)
        return module.label_content(self.network, labels, boxes)

    def place_content(self, memory: Memory, boxes: Tensor) -> Tensor:
        """Make the content (B, Q, D) of queries of no class at boxes (B, Q, 4)."""
        module = cast("QueryDetectorModule", self.module)
        return module.place_content(self.network, memory, into_frame(boxes, memory.frame))

    def decode(self, memory: Memory, queries: Queries) -> DetrOutputs:
        """Decode any queries, with every decoder layer."""
        module = cast("QueryDetectorModule", self.module)
        inside = replace(queries, boxes=into_frame(queries.boxes, memory.frame))
        outputs = module.decode(self.network, memory, inside)
        if memory.frame is not None:
            outputs = replace(outputs, boxes=out_of_frame(outputs.boxes, memory.frame))
        if self.rows:
            logits = self.rows.of_sigmoid(outputs.logits)
            outputs = replace(outputs, logits=logits, known=self.rows.known)
        return outputs

    def cell_outputs(self, pyramid: Pyramid, count: int) -> CellOutputs:
        """Return the outputs at the best anchors or locations, at most ``count`` an image."""
        return cast("DenseDetectorModule", self.module).cell_outputs(self.network, pyramid, count)

    def classify_regions(self, pyramid: Pyramid, boxes: Sequence[Tensor]) -> RegionOutputs:
        """Classify and refine given boxes, xyxy in [0, 1], (n, 4) an image."""
        module = cast("RegionDetectorModule", self.module)
        frame = pyramid.frame
        inside = boxes if frame is None else _regions_in_frame(boxes, frame)
        outputs = module.classify_regions(self.network, pyramid, inside)
        if frame is not None:
            counts = torch.tensor([len(b) for b in boxes], device=frame.device)
            scale, shift = frame.repeat_interleave(counts, 0)[:, None].chunk(2, -1)
            moved = (outputs.boxes - shift.repeat(1, 1, 2)) / scale.repeat(1, 1, 2)
            outputs = replace(outputs, boxes=moved)
        if self.rows:
            found = outputs.logits
            outputs = replace(
                outputs,
                logits=self.rows.of_softmax(found),
                deltas=self.rows.of_boxes(outputs.deltas, found),
                boxes=self.rows.of_boxes(outputs.boxes, found),
                known=self.rows.known,
            )
        return outputs


def _regions_in_frame(boxes: Sequence[Tensor], frame: Tensor) -> list[Tensor]:
    """Move boxes, xyxy in [0, 1], to where they lie in the frame of each image."""
    scale, shift = (part.repeat(1, 2) for part in frame.chunk(2, -1))
    return [(b * a + c).clamp(0, 1) for b, a, c in zip(boxes, scale, shift, strict=True)]


def new_model(
    family: str,
    preset: str,
    spec: ModelSpec,
    architecture: Architecture | None = None,
    tensors: Mapping[str, Tensor] | None = None,
) -> Model:
    """Make a model with fresh weights.

    Args:
        family: File name under ``edgedetr.distill.detectors``.
        preset: Size within the family; `IMPORTED` for one that an architecture describes.
        spec: Input and classes.
        architecture: What it is made of where no preset says it.
        tensors: Weights for an architecture, in transformers' naming; None gives fresh ones.

    Raises:
        UnknownNameError: If there is no such family or preset.
        ArtifactError: If transformers refuses the architecture, or the tensors do not fit it.
        UsageError: If the architecture has the query fade and its family chooses no queries.
    """
    if architecture is None:
        module = family_with(preset, family)
        return Model(family, preset, spec, module.build(preset, len(spec.class_names)))
    importing = cast("ImportableModule", family_with(IMPORTED, family))
    network = importing.build_from(architecture.config, architecture.rows, tensors)
    if hasattr(network, "query_fade"):
        network.query_fade = architecture.query_fade  # type: ignore[assignment]
    elif architecture.query_fade:
        raise UsageError(f"{family} has no query fade; leave out --query-fade")
    return Model(family, IMPORTED, spec, network, architecture=architecture)


def same_kind(model: Model, spec: ModelSpec) -> Model:
    """Make a model of the same family and size with fresh weights, perhaps for other classes."""
    architecture = model.architecture
    if architecture and spec.class_names != model.spec.class_names:
        architecture = architecture.for_classes(len(spec.class_names))
    return new_model(model.family, model.preset, spec, architecture)


def family_with(preset: str, family: str) -> DetectorModule:
    """Return the module of a family that has a preset; `IMPORTED` is one of transformers' families.

    Raises:
        UnknownNameError: If there is no such family or preset.
    """
    module = detector(family)
    if preset == IMPORTED and is_importable(module):
        return module
    if not trains(module):
        raise UnknownNameError(
            f"{family} has no presets: it comes imported, detects and teaches, and is not trained "
            "here; choose another family for the student"
        )
    if preset not in module.PRESETS:
        raise UnknownNameError(f"no preset {preset!r} in {family}{nearest(preset, module.PRESETS)}")
    return module
