"""What the detectors' own losses share: every decoder layer supervised, ignored areas left out.

The formulas are transformers'. RT-DETR's and D-FINE's are computed for all layers at once
(`edgedetr.distill.networks.layer_losses`), DEIMv2's by transformers itself. The assembly is ours
for two reasons: labels may hold ignored areas (KITTI's DontCare), and transformers pairs D-FINE's
initial head with the corners of the first layer, which leaves inner layers without a class loss.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_convert
from transformers.loss.loss_deimv2 import Deimv2Loss
from typing_extensions import override

from edgedetr.distill.networks import whole_batch
from edgedetr.distill.networks.finite import require_finite, require_finite_when_read
from edgedetr.distill.networks.layer_losses import (
    CORNER_TEMPERATURE,
    SILENT_LOGIT,
    Layers,
    Matches,
    denoising_matches,
    hungarian_matches,
    layer_losses,
    overlaps,
    truth_of,
)
from edgedetr.distill.networks.precision import in_float32
from edgedetr.distill.types import Losses, LossTerm, Part

IGNORED_SHARE = 0.5
"""A prediction counts as lying in an ignored area from this share of its own area on."""

Labels = Sequence[Mapping[str, Tensor]]
"""Per image ``class_labels`` (G,), ``boxes`` (G, 4) and ``ignored`` (M, 4)."""

Place = tuple[int | None, Part]
"""Layer and part of a `LossTerm`."""

_NAME = re.compile(r"(.+?)(?:_aux_(\d+)|_dn_(\d+))?")


class Deimv2Criterion(Deimv2Loss):  # type: ignore[misc]
    """DEIMv2's losses, blind in ignored areas.

    Boxes and corners of every layer learn from the union of all layers' matches, where the
    configuration has it so.
    """

    @override
    def loss_labels_mal(self, outputs: Any, targets: Any, indices: Any, *rest: Any) -> Any:
        """Return the matchability-aware loss of (B, Q, K) logits outside the ignored areas."""
        outputs = silence_ignored(outputs, targets, indices)
        return super().loss_labels_mal(outputs, targets, indices, *rest)

    @override
    def get_loss(
        self, loss: str, outputs: Any, targets: Any, indices: Any, num_boxes: float
    ) -> Any:
        """Return a loss, divided by the boxes of the whole batch."""
        if whole_batch.current_part() is not None:
            own = [len(t["class_labels"]) for t in targets]
            copies = round(num_boxes / max(1, sum(own)))
            num_boxes = copies * sum(whole_batch.sizes(own))
            if self.use_dense_one_to_one and loss != "mal":
                num_boxes = whole_batch.count(sum(len(rows) for rows, _ in indices))
        return super().get_loss(loss, outputs, targets, indices, max(1.0, num_boxes))

    @override
    def loss_local(self, outputs: Any, targets: Any, indices: Any, *rest: Any) -> Any:
        """Return the losses of the distributions of edges."""
        losses = super().loss_local(outputs, targets, indices, *rest)
        if whole_batch.current_part() is not None and "loss_ddf" in losses:
            losses["loss_ddf"] = self._distilled_from_last(outputs, targets, indices)
        return losses

    def _distilled_from_last(
        self,
        outputs: Mapping[str, Tensor],
        targets: Labels,
        indices: Sequence[tuple[Tensor, Tensor]],
    ) -> Tensor:
        """Return transformers' loss of a part of a batch, with the means of the whole batch."""
        own, target = (
            outputs[k].reshape(*outputs[k].shape[:-1], 4, -1)
            for k in ("pred_corners", "teacher_corners")
        )
        chosen = self._get_source_permutation_idx(indices)
        truth = torch.cat([t["boxes"][i] for t, (_, i) in zip(targets, indices, strict=True)])
        iou, _ = overlaps(outputs["pred_boxes"][chosen].detach(), truth)
        weights = outputs["teacher_logits"].detach().sigmoid().amax(-1)
        weights[chosen] = iou.to(weights.dtype)
        matched = torch.zeros_like(weights, dtype=torch.bool)
        matched[chosen] = True
        p, q = ((x / CORNER_TEMPERATURE).log_softmax(-1) for x in (own, target.detach()))
        kl = (q.exp() * (q - p)).sum(-1).sum(-1) * weights * CORNER_TEMPERATURE**2
        loss, factors = kl.new_zeros(()), 0.0
        for some in (matched, ~matched):
            number = 4 * whole_batch.count(int(some.sum()))
            loss = loss + kl[some].sum() / max(1, number) * math.sqrt(number)
            factors += math.sqrt(number)
        return loss / factors


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
    """Return the largest share of each box (..., N, 4) that an area (..., M, 4) covers, (..., N).

    Both are cxcywh in [0, 1].
    """
    a, b = (box_convert(x, "cxcywh", "xyxy") for x in (boxes.unsqueeze(-2), areas.unsqueeze(-3)))
    low, high = torch.max(a[..., :2], b[..., :2]), torch.min(a[..., 2:], b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    own = (boxes[..., 2] * boxes[..., 3]).clamp(min=torch.finfo(boxes.dtype).tiny)
    share: Tensor = (shared / own.unsqueeze(-1)).amax(-1)
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
) -> tuple[Tensor, Losses, None]:
    """Compute the detection loss of an RT-DETR-like model, as its ``loss_function``.

    Args:
        logits: Unused: the last layer of ``outputs_class``.
        labels: Per image ``class_labels`` (G,), ``boxes`` (G, 4) and ``ignored`` (M, 4).
        device: Unused: where the tensors lie.
        pred_boxes: Unused: the last layer of ``outputs_coord``.
        config: The model's configuration with the loss weights.
        outputs_class: Class logits (B, E, Q, K), denoising queries first; D-FINE has one more
            layer, its initial head, in front.
        outputs_coord: Boxes (B, E, Q, 4), cxcywh in [0, 1].
        enc_topk_logits: Class logits (B, Q, K) of the chosen encoder cells.
        enc_topk_bboxes: Boxes (B, Q, 4) of the chosen encoder cells.
        denoising_meta_values: transformers' record of the denoising queries.
        predicted_corners: D-FINE's corner distributions (B, E, Q, 4 * (bins + 1)).
        initial_reference_points: D-FINE's reference boxes (B, E, Q, 4).

    Returns:
        The sum, the weighted terms, and nothing.

    Raises:
        NotFiniteError: If logits or boxes are not finite.
    """
    del logits, device, pred_boxes
    stacked = config.model_type != "deimv2"
    check = require_finite_when_read if stacked else require_finite
    check(
        logits=outputs_class,
        boxes=outputs_coord,
        encoder_logits=enc_topk_logits,
        encoder_boxes=enc_topk_bboxes,
    )
    denoising, normal = _split_denoising(
        (outputs_class, outputs_coord, predicted_corners, initial_reference_points),
        denoising_meta_values,
    )
    encoder = {"logits": enc_topk_logits, "pred_boxes": enc_topk_bboxes.clamp(0, 1)}
    assembled = _stacked_losses if stacked else _deimv2_losses
    terms = assembled(config, labels, encoder, normal, denoising, denoising_meta_values)
    return torch.stack(list(terms.values())).sum(), terms, None


def _stacked_losses(
    config: Any,  # noqa: ANN401
    labels: Labels,
    encoder: Mapping[str, Tensor],
    normal: tuple[Any, ...],
    denoising: tuple[Any, ...] | None,
    meta: Mapping[str, Any] | None,
) -> Losses:
    """Return RT-DETR's or D-FINE's losses."""
    truth = truth_of(labels)
    num_boxes = max(1, sum(whole_batch.sizes(truth.sizes)))
    layers = _stacked(normal, encoder)
    matches = hungarian_matches(layers.logits.detach(), layers.boxes.detach(), truth, config)
    silent = _silent(layers, matches, labels)
    inner = len(layers.logits) - 2
    places: list[Place] = [(None, "encoder"), *((i, "decoder") for i in range(inner))]
    losses = layer_losses(layers, truth, matches, num_boxes, config, silent)
    terms = _terms(losses, [*places, (None, "decoder")])
    if denoising is not None:
        assert meta is not None  # noqa: S101 - the split was made by it
        layers = _stacked(denoising)
        depth = len(layers.logits)
        matches = denoising_matches(meta, truth, depth)
        num_boxes *= meta["dn_num_group"]
        silent = _silent(layers, matches, labels)
        losses = layer_losses(layers, truth, matches, num_boxes, config, silent)
        terms |= _terms(losses, [(i, "denoising") for i in range(depth)])
    return terms


def _stacked(outputs: tuple[Any, ...], encoder: Mapping[str, Tensor] | None = None) -> Layers:
    """Put layers in front of the batch; the encoder's outputs, if any, become the first layer."""
    logits, boxes, corners, references = outputs
    front = [] if encoder is None else [encoder]
    return Layers(
        torch.cat([*(e["logits"].unsqueeze(0) for e in front), logits.transpose(0, 1)]),
        torch.cat(
            [*(e["pred_boxes"].unsqueeze(0) for e in front), boxes.clamp(0, 1).transpose(0, 1)]
        ),
        None if corners is None else corners.transpose(0, 1),
        None if references is None else references.transpose(0, 1),
    )


def _silent(layers: Layers, matches: Matches, labels: Labels) -> Tensor | None:
    """Tell which predictions `silence_ignored` silences, (L, B, Q); None where there is no area."""
    if not any(len(label["ignored"]) for label in labels):
        return None
    areas = pad_sequence([label["ignored"] for label in labels], batch_first=True)
    inside = share_inside(layers.boxes.detach(), areas) >= IGNORED_SHARE
    return inside.flatten(1).scatter(1, matches.rows, value=False).reshape(inside.shape)


def _terms(losses: Mapping[str, Tensor], places: Sequence[Place]) -> Losses:
    """Take the losses (L,) apart by layer; a loss of corners is of the last layers."""
    return {
        LossTerm(name, *place): value
        for name, values in losses.items()
        for place, value in zip(places[-len(values) :], values.unbind(), strict=True)
    }


def _deimv2_losses(
    config: Any,  # noqa: ANN401
    labels: Labels,
    encoder: dict[str, Tensor],
    normal: tuple[Any, ...],
    denoising: tuple[Any, ...] | None,
    meta: Mapping[str, Any] | None,
) -> Losses:
    """Return DEIMv2's losses by transformers' criterion."""
    *inner, last = _layers(*normal)
    outputs: dict[str, Any] = {**last, "auxiliary_outputs": [*inner, encoder]}
    if denoising is not None:
        outputs["dn_auxiliary_outputs"] = _layers(*denoising)
        outputs["denoising_meta_values"] = meta
    criterion = Deimv2Criterion(config).to(encoder["logits"].device)
    losses = in_float32(criterion.forward)(outputs, labels)
    return terms_from_names(losses, len(inner))


def terms_from_names(losses: Mapping[str, Tensor], inner: int) -> Losses:
    """Return losses that transformers names, such as ``loss_giou_aux_0``, as terms.

    Args:
        losses: Weighted losses by name.
        inner: Decoder layers before the last one; the encoder's cells come behind them.
    """
    terms: Losses = {}
    for whole, value in losses.items():
        name, auxiliary, denoising = _NAME.fullmatch(whole).groups()  # type: ignore[union-attr]
        place: Place = (None, "decoder")
        if denoising:
            place = (int(denoising), "denoising")
        elif auxiliary:
            place = (None, "encoder") if int(auxiliary) == inner else (int(auxiliary), "decoder")
        terms[LossTerm(name, *place)] = value
    return terms


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
