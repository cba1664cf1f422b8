"""What the detectors' own losses share: every decoder layer supervised, ignored areas left out.

The losses themselves (varifocal or matchability-aware, L1, GIoU and D-FINE's fine-grained
localization and decoupled distillation focal loss) and the matcher come from transformers. The
assembly is ours for two reasons: labels may hold ignored areas (KITTI's DontCare), and transformers
pairs D-FINE's initial head with the corners of the first layer, which leaves inner layers without a
class loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchvision.ops import box_convert
from transformers.loss.loss_d_fine import DFineLoss
from transformers.loss.loss_deimv2 import Deimv2Loss
from transformers.loss.loss_rt_detr import RTDetrLoss
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IGNORED_SHARE = 0.5
"""A prediction counts as lying in an ignored area from this share of its own area on."""

SILENT_LOGIT = -50.0
"""Class logit whose varifocal loss and gradient are zero in float32."""


class DFineCriterion(DFineLoss):  # type: ignore[misc]
    """D-FINE's losses, blind in ignored areas."""

    @override
    def loss_labels_vfl(self, outputs: Any, targets: Any, indices: Any, *rest: Any) -> Any:
        """Return the varifocal loss of (B, Q, K) logits outside the ignored areas."""
        outputs = silence_ignored(outputs, targets, indices)
        return super().loss_labels_vfl(outputs, targets, indices, *rest)


class Deimv2Criterion(Deimv2Loss):  # type: ignore[misc]
    """DEIMv2's losses, blind in ignored areas.

    Boxes and corners of every layer learn from the union of all layers' matches, where the
    configuration says so.
    """

    @override
    def loss_labels_mal(self, outputs: Any, targets: Any, indices: Any, *rest: Any) -> Any:
        """Return the matchability-aware loss of (B, Q, K) logits outside the ignored areas."""
        outputs = silence_ignored(outputs, targets, indices)
        return super().loss_labels_mal(outputs, targets, indices, *rest)


class RTDetrCriterion(RTDetrLoss):  # type: ignore[misc]
    """RT-DETR's losses, blind in ignored areas."""

    @override
    def loss_labels_vfl(self, outputs: Any, targets: Any, indices: Any, *rest: Any) -> Any:
        """Return the varifocal loss of (B, Q, K) logits outside the ignored areas."""
        outputs = silence_ignored(outputs, targets, indices)
        return super().loss_labels_vfl(outputs, targets, indices, *rest)


def silence_ignored(
    outputs: Mapping[str, Tensor],
    targets: Sequence[Mapping[str, Tensor]],
    indices: Sequence[tuple[Tensor, Tensor]],
) -> dict[str, Tensor]:
    """Take unmatched predictions inside ignored areas out of the class loss.

    Args:
        outputs: ``logits`` (B, Q, K) and ``pred_boxes`` (B, Q, 4), cxcywh in [0, 1].
        targets: Per image ``ignored`` (M, 4), cxcywh in [0, 1].
        indices: Per image the matched queries and their objects.

    Returns:
        The outputs, with logits that give neither loss nor gradient where a prediction lies at
        least half inside an ignored area and is matched to no object.
    """
    logits = outputs["logits"]
    silent = torch.zeros(logits.shape[:2], dtype=torch.bool, device=logits.device)
    for row, (target, (matched, _)) in enumerate(zip(targets, indices, strict=True)):
        if len(target["ignored"]):
            inside = share_inside(outputs["pred_boxes"][row].detach(), target["ignored"])
            silent[row] = inside >= IGNORED_SHARE
            silent[row, matched.to(silent.device)] = False
    return {**outputs, "logits": logits.masked_fill(silent.unsqueeze(-1), SILENT_LOGIT)}


def share_inside(boxes: Tensor, areas: Tensor) -> Tensor:
    """Return the largest share of each box (N, 4) that one of the areas (M, 4) covers, (N,).

    Both are cxcywh in [0, 1].
    """
    a, b = (box_convert(x, "cxcywh", "xyxy") for x in (boxes, areas))
    low, high = torch.max(a[:, None, :2], b[:, :2]), torch.min(a[:, None, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    own = (boxes[:, 2] * boxes[:, 3]).clamp(min=torch.finfo(boxes.dtype).tiny)
    share: Tensor = (shared / own[:, None]).amax(dim=1)
    return share


def real_time_detr_loss(  # noqa: PLR0913, PLR0917 - transformers calls it with these
    logits: Tensor,
    labels: Sequence[Mapping[str, Tensor]],
    device: torch.device,
    pred_boxes: Tensor,
    config: Any,  # noqa: ANN401
    outputs_class: Tensor,
    outputs_coord: Tensor,
    *,
    enc_topk_logits: Tensor,
    enc_topk_bboxes: Tensor,
    denoising_meta_values: Mapping[str, Any] | None = None,
    predicted_corners: Tensor | None = None,
    initial_reference_points: Tensor | None = None,
    **_: Any,  # noqa: ANN401
) -> tuple[Tensor, dict[str, Tensor], None]:
    """Compute the detection loss of an RT-DETR-like model, as its ``loss_function``.

    Args:
        logits: Unused: the last layer of ``outputs_class``.
        labels: Per image ``class_labels`` (G,), ``boxes`` (G, 4) and ``ignored`` (M, 4).
        device: Where the model lies.
        pred_boxes: Unused: the last layer of ``outputs_coord``.
        config: The model's configuration with the loss weights.
        outputs_class: Class logits (B, E, Q, K), denoising queries first; D-FINE has one more
            layer, its initial head, in front.
        outputs_coord: Boxes (B, E, Q, 4), cxcywh in [0, 1].
        enc_topk_logits: Class logits (B, Q, K) of the chosen encoder cells.
        enc_topk_bboxes: Boxes (B, Q, 4) of the chosen encoder cells.
        denoising_meta_values: What the model says about its denoising queries.
        predicted_corners: D-FINE's corner distributions (B, E, Q, 4 * (bins + 1)).
        initial_reference_points: D-FINE's reference boxes (B, E, Q, 4).

    Returns:
        The sum, the weighted terms by name, and nothing.
    """
    del logits, pred_boxes
    criterion = _CRITERIA.get(config.model_type, RTDetrCriterion)(config).to(device)
    denoising, normal = _split_denoising(
        (outputs_class, outputs_coord, predicted_corners, initial_reference_points),
        denoising_meta_values,
    )
    *inner, last = _layers(*normal)
    encoder = {"logits": enc_topk_logits, "pred_boxes": enc_topk_bboxes.clamp(0, 1)}
    outputs: dict[str, Any] = {**last, "auxiliary_outputs": [*inner, encoder]}
    if denoising is not None:
        outputs["dn_auxiliary_outputs"] = _layers(*denoising)
        outputs["denoising_meta_values"] = denoising_meta_values
    terms = criterion(outputs, labels)
    return torch.stack(list(terms.values())).sum(), terms, None


_CRITERIA: dict[str, type[Any]] = {"d_fine": DFineCriterion, "deimv2": Deimv2Criterion}


def _split_denoising(
    tensors: tuple[Tensor | None, ...], meta: Mapping[str, Any] | None
) -> tuple[tuple[Any, ...] | None, tuple[Any, ...]]:
    if meta is None:
        return None, tensors
    pairs = [
        (None, None) if t is None else torch.split(t, meta["dn_num_split"], dim=2) for t in tensors
    ]
    return tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)


def _layers(
    logits: Tensor, boxes: Tensor, corners: Tensor | None, references: Tensor | None
) -> list[dict[str, Tensor]]:
    """Return one dict a layer; D-FINE's initial head in front has no corners."""
    layers = [
        {"logits": z, "pred_boxes": b.clamp(0, 1)}
        for z, b in zip(logits.unbind(1), boxes.unbind(1), strict=True)
    ]
    if corners is not None and references is not None:
        for layer, c, r in zip(
            layers[-corners.shape[1] :], corners.unbind(1), references.unbind(1), strict=True
        ):
            layer |= {
                "pred_corners": c,
                "ref_points": r,
                "teacher_corners": corners[:, -1],
                "teacher_logits": logits[:, -1],
            }
    return layers
