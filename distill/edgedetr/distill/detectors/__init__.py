"""Detector families, one file each.

A family's file has module functions; `DetectorModule` lists those that every family has. Further
abilities show in the functions that a file has besides:

* ``decode`` takes *external* queries (from ground truth, from the teacher, random), which carries
  query-aligned distillation between any two families that have it (`QueryDetectorModule`);
* ``classify_regions`` classifies any boxes (`RegionDetectorModule`);
* ``cell_outputs`` gives what a dense detector says at its best anchors (`DenseDetectorModule`);
* ``build_from`` makes the model of a ``config.json`` of transformers, or the one that torchvision
  publishes (`ImportableModule`).
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol, cast

from edgedetr.distill import imported
from edgedetr.runtime.errors import UnknownNameError
from edgedetr.runtime.plugins import find, names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

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


class DetectorModule(Protocol):
    """What the file of every family defines.

    Attributes:
        PRESETS: Sizes by name; what a size holds is the family's business.
    """

    PRESETS: Mapping[str, object]

    def build(self, preset: str, num_classes: int) -> nn.Module:
        """Make a model with fresh weights and live batch norms."""
        ...

    def width(self, model: nn.Module) -> int:
        """Return the channels of the memory's or pyramid's levels."""
        ...

    def predict(self, model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """Detect in (B, 3, H, W): logits (B, Q, K) and boxes (B, Q, 4), cxcywh in [0, 1].

        Duplicates are gone, Q is fixed, and the graph is what `edgedetr export onnx` writes.
        """
        ...

    def training_pass(
        self, model: nn.Module, images: Tensor, targets: Sequence[Targets]
    ) -> tuple[Losses, Features]:
        """Return the family's own weighted detection losses, and the memory they came from."""
        ...

    def encode(self, model: nn.Module, images: Tensor) -> Features:
        """Run all but decoder or heads on (B, 3, H, W)."""
        ...

    def regions(self, model: nn.Module, memory: Features) -> Regions:
        """Return the boxes that the model finds on its own memory or pyramid."""
        ...

    def embedding_width(self, model: nn.Module) -> int:
        """Return the channels C of a region's embedding."""
        ...

    def anchor_kinds(self, model: nn.Module) -> int:
        """Return how many anchors a cell has: what `Regions.kinds` stays below."""
        ...


class QueryDetectorModule(DetectorModule, Protocol):
    """What the file of a family of detection transformers defines besides."""

    def label_content(self, model: nn.Module, labels: Tensor, boxes: Tensor) -> Tensor:
        """Make the content of queries that stand for objects of known classes, detached.

        Args:
            model: The detector.
            labels: Class indices (B, Q).
            boxes: The queries' reference boxes, cxcywh in [0, 1], (B, Q, 4).

        Returns:
            Embeddings (B, Q, D).
        """
        ...

    def place_content(self, model: nn.Module, memory: Memory, boxes: Tensor) -> Tensor:
        """Make the content of queries of no class, as the model makes that of its own, detached.

        Args:
            model: The detector.
            memory: What its encoder gave.
            boxes: The queries' reference boxes, cxcywh in [0, 1], (B, Q, 4).

        Returns:
            Embeddings (B, Q, D).
        """
        ...

    def decode(self, model: nn.Module, memory: Memory, queries: Queries) -> DetrOutputs:
        """Decode any queries, with every decoder layer."""
        ...


class RegionDetectorModule(DetectorModule, Protocol):
    """What the file of a two-stage family defines besides."""

    def classify_regions(
        self, model: nn.Module, pyramid: Pyramid, boxes: Sequence[Tensor]
    ) -> RegionOutputs:
        """Classify and refine given boxes, xyxy in [0, 1], (n, 4) an image."""
        ...


class DenseDetectorModule(DetectorModule, Protocol):
    """What the file of a one-stage family without queries defines besides."""

    def cell_outputs(self, model: nn.Module, pyramid: Pyramid, count: int) -> CellOutputs:
        """Return the outputs at the anchors or locations of highest score, at most so many."""
        ...


class TeachingModule(Protocol):
    """What the file of every family of transformers has; those in `imported` have no more."""

    def build_from(
        self,
        config: Mapping[str, Any],
        num_classes: int,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> nn.Module:
        """Make the model that a ``config.json`` describes, also one that no preset has.

        Args:
            config: Its values; how many classes it says does not count.
            num_classes: How many rows the class heads have.
            tensors: Its weights, see `edgedetr.distill.networks.transformers_model.network_from`;
                None gives fresh ones.

        Raises:
            ArtifactError: If transformers refuses a value, or tensors are missing or of another
                shape.
        """
        ...

    def width(self, model: nn.Module) -> int:
        """See `DetectorModule`."""
        ...

    def predict(self, model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `DetectorModule`."""
        ...

    def encode(self, model: nn.Module, images: Tensor) -> Features:
        """See `DetectorModule`."""
        ...


class ImportableModule(DetectorModule, TeachingModule, Protocol):
    """What the file of a family that transformers has defines besides."""


def detector(family: str) -> DetectorModule:
    """Return the module of a detector family; of one in `imported` it is a `TeachingModule`.

    Raises:
        UnknownNameError: If there is no such family, or the installed transformers lacks it.
    """
    package = imported if family in names(imported.__name__) else sys.modules[__name__]
    try:
        return cast("DetectorModule", find(package.__name__, family))
    except ImportError as error:
        raise UnknownNameError(
            f"{family} needs a newer transformers than {version('transformers')}: {error}"
        ) from error


def importable_families() -> list[str]:
    """Name the families whose weights transformers has."""
    own = [name for name in names(__name__) if name not in MADE_HERE]
    return sorted([*own, *names(imported.__name__)])


MADE_HERE = ("dino", "faster_rcnn", "fcos", "retinanet")
"""Families that transformers does not have."""


def trains(module: DetectorModule) -> bool:
    """Tell whether a family can be trained here: whether it can be a student."""
    return hasattr(module, "training_pass")


def is_importable(module: DetectorModule) -> bool:
    """Tell whether transformers or torchvision publishes a family, so that it can be imported."""
    return hasattr(module, "build_from")


def decodes_queries(module: DetectorModule) -> bool:
    """Tell whether a family decodes external queries: whether it is a detection transformer."""
    return hasattr(module, "decode")


def is_dense(module: DetectorModule) -> bool:
    """Tell whether a family answers at anchors or locations: whether it is a dense detector."""
    return hasattr(module, "cell_outputs")


def classifies_regions(module: DetectorModule) -> bool:
    """Tell whether a family classifies given boxes: whether it is a two-stage detector."""
    return hasattr(module, "classify_regions")
