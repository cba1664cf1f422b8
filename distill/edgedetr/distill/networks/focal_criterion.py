"""The detection loss of the families that classify with focal loss, blind in ignored areas.

Deformable DETR, DINO and DAB-DETR train alike: sigmoid focal loss, L1 and GIoU on every
decoder layer, each layer matched by itself (Zhu et al., 2021, section 3). Losses and matcher come
from transformers; what is ours is that ignored areas are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers.loss.loss_deformable_detr import (
    DeformableDetrHungarianMatcher,
    DeformableDetrImageLoss,
)
from typing_extensions import override

from edgedetr.distill.networks import whole_batch
from edgedetr.distill.networks.criterion import silence_ignored
from edgedetr.distill.networks.finite import require_finite
from edgedetr.distill.networks.precision import in_float32
from edgedetr.distill.types import LossTerm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from edgedetr.distill.types import Losses, Part, Targets

ALPHA = 0.25
"""Weight of the positives in the focal loss."""

Matches = list[tuple["Tensor", "Tensor"]]
"""Per image the indices of the matched queries and of their objects."""


@dataclass(frozen=True)
class FocalWeights:
    """Factors of the loss's terms and of the matcher's costs; DINO's and DAB-DETR's by default.

    Attributes:
        label: Factor of the focal loss, which is summed over queries and classes and divided by the
            number of objects.
        l1: Factor of the L1 loss of matched boxes.
        giou: Factor of their GIoU loss.
        label_cost: Factor of the focal cost in the matching; the other costs have the factors of
            their losses.
    """

    label: float = 1.0
    l1: float = 5.0
    giou: float = 2.0
    label_cost: float = 2.0


class FocalCriterion(DeformableDetrImageLoss):  # type: ignore[misc]
    """Focal, L1 and GIoU loss of one set of predictions, blind in ignored areas.

    Args:
        num_classes: Width of the logits.
        weights: Factors of terms and costs.
        matches: Which query belongs to which object, where that is known already, as with
            denoising queries; the Hungarian matcher finds out when None.
        num_boxes: What the terms are divided by.
    """

    def __init__(
        self,
        num_classes: int,
        weights: FocalWeights,
        matches: Matches | None = None,
        num_boxes: float = 1.0,
    ) -> None:
        matcher: Any = DeformableDetrHungarianMatcher(weights.label_cost, weights.l1, weights.giou)
        if matches is not None:
            matcher = _Known(matches)
        super().__init__(matcher, num_classes, ALPHA, ["labels", "boxes"])
        self.num_boxes = num_boxes

    @override
    def forward(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        """Return the losses of all layers; transformers' own counts the boxes of one device."""
        losses: dict[str, Tensor] = {}
        for index, layer in enumerate([outputs, *outputs["auxiliary_outputs"]]):
            indices = self.matcher(layer, targets)
            end = f"_{index - 1}" if index else ""
            for loss in self.losses:
                found = self.get_loss(loss, layer, targets, indices, self.num_boxes)
                losses |= {f"{name}{end}": value for name, value in found.items()}
        return losses

    @override
    def loss_labels(self, outputs: Any, targets: Any, indices: Any, num_boxes: float) -> Any:
        """Return the focal loss of (B, Q, K) logits outside the ignored areas."""
        return super().loss_labels(
            silence_ignored(outputs, targets, indices), targets, indices, num_boxes
        )


class _Known:
    """Stands in for the matcher where the matches are known."""

    def __init__(self, matches: Matches) -> None:
        self._matches = matches

    def __call__(self, *_: object) -> Matches:
        return self._matches


@in_float32
def focal_losses(  # noqa: PLR0913 - one argument per choice
    weights: FocalWeights,
    logits: Tensor,
    boxes: Tensor,
    targets: Sequence[Targets],
    *,
    matches: Matches | None = None,
    copies: int = 1,
    part: Part = "decoder",
) -> Losses:
    """Return the weighted terms of every decoder layer.

    Args:
        weights: Factors of terms and costs.
        logits: Class logits of each layer, (E, B, Q, K), the last layer last.
        boxes: Boxes of each layer, cxcywh in [0, 1], (E, B, Q, 4).
        targets: The truth of each image; it may hold more objects than there are queries, or none.
        matches: Which query belongs to which object, in all layers alike; each layer is matched by
            itself when None.
        copies: How often ``targets`` has each object of an image.
        part: Whose predictions these are, see `LossTerm`.

    Returns:
        ``loss_ce``, ``loss_bbox`` and ``loss_giou`` of every layer. Each is divided by the number
        of objects of the whole batch, at least 1.

    Raises:
        NotFiniteError: If logits or boxes are not finite.
    """
    require_finite(logits=logits, boxes=boxes)
    own = [len(t.labels) // copies for t in targets]
    num_boxes = float(max(1, copies * sum(whole_batch.sizes(own))))
    criterion = FocalCriterion(logits.shape[-1], weights, matches, num_boxes)
    truth = [{"class_labels": t.labels, "boxes": t.boxes, "ignored": t.ignored} for t in targets]
    *inner, last = (
        {"logits": z, "pred_boxes": b}
        for z, b in zip(logits.float().unbind(), boxes.float().unbind(), strict=True)
    )
    terms = criterion({**last, "auxiliary_outputs": inner}, truth)
    factors = {"loss_ce": weights.label, "loss_bbox": weights.l1, "loss_giou": weights.giou}
    return {
        LossTerm(name, layer, part, apart=True): factor
        * terms[name if layer is None else f"{name}_{layer}"]
        for layer in (None, *range(len(inner)))
        for name, factor in factors.items()
    }
