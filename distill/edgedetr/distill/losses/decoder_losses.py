"""Decoder losses: how a student's outputs for shared queries differ from a teacher's, by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgedetr.distill.class_map import only_known
from edgedetr.distill.losses.logit_losses import ClassLoss, corner_loss, query_losses
from edgedetr.distill.networks.precision import in_float32
from edgedetr.runtime.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

    from edgedetr.distill.model import Model
    from edgedetr.distill.types import DetrOutputs

DECODER_TERMS = ("class", "l1", "giou", "corners")
"""The names of the `decoder_losses`."""


@dataclass(frozen=True)
class DecoderLossSettings:
    """Weights and choices that every method of shared queries has.

    Attributes:
        class_weight: Factor of the class term.
        l1_weight: Factor of the L1 term.
        giou_weight: Factor of the GIoU term.
        corner_weight: Factor of the term on D-FINE's distributions of edges (`corner_loss`), for
            pairs that have them.
        class_loss: ``bernoulli_kl`` also distils how sure a sigmoid head is; ``softmax_kl`` is the
            papers' and blind to a constant added to all logits.
        class_norm: ``weights`` divides by the summed query weights; ``sum`` is the papers'.
        temperature: Softens both class distributions.
        layers: ``paired`` pairs decoder layers one to one where both have as many, else and with
            ``final`` the teacher's last layer is the target of every layer.
        query_weight: ``teacher_score`` weights a query by the confidence of the teacher's last
            layer, ``max_c sigmoid(z_c)``; ``one`` does not.
    """

    class_weight: float = 1.0
    l1_weight: float = 5.0
    giou_weight: float = 2.0
    corner_weight: float = 0.0
    class_loss: Literal["bernoulli_kl", "softmax_kl"] = "bernoulli_kl"
    class_norm: Literal["weights", "sum"] = "weights"
    temperature: float = 1.0
    layers: Literal["paired", "final"] = "paired"
    query_weight: Literal["teacher_score", "one"] = "teacher_score"

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")


def check_pair(settings: DecoderLossSettings, student: Model, teacher: Model) -> None:
    """Refuse settings with which a pair of models would have no loss.

    Raises:
        SettingsError: If the class loss is blind to a single class, or the models have no
            distributions of edges over the same bins to compare.
    """
    known = teacher.known_classes or range(student.num_classes)
    if settings.class_loss == "softmax_kl" and len(known) == 1:
        raise SettingsError(
            "class_loss = 'softmax_kl' is zero with a single class, whatever the student's logits; "
            "use 'bernoulli_kl'"
        )
    if settings.corner_weight > 0:
        own, target = _bins(student), _bins(teacher)
        if own is None or own != target:
            raise SettingsError(
                f"corner_weight = {settings.corner_weight} compares distributions of edges over "
                f"the same bins (D-FINE, DEIMv2); {student.family} has {_named(own)}, "
                f"{teacher.family} {_named(target)}; set corner_weight = 0"
            )


@in_float32
def decoder_losses(
    student: DetrOutputs, teacher: DetrOutputs, counts: Tensor, settings: DecoderLossSettings
) -> dict[str, Tensor]:
    """Compare the outputs for one set of queries, term by term.

    The class term looks at the classes that the teacher knows alone.

    Args:
        student: Outputs (E, B, Q, ...).
        teacher: The teacher's outputs for the same queries; get no gradient.
        counts: False in slots that do not count, (B, Q).
        settings: Weights, class loss, pairing of layers and weighting of queries.

    Returns:
        `DECODER_TERMS`, weighted, summed over the student's layers.
    """
    depth = len(student.logits)
    paired = settings.layers == "paired" and depth == len(teacher.logits)
    class_loss = ClassLoss(settings.class_loss, settings.class_norm, settings.temperature)
    factors = {
        "class": settings.class_weight,
        "l1": settings.l1_weight,
        "giou": settings.giou_weight,
    }
    weights = query_weights(teacher.logits[-1].detach(), counts, settings)
    total = {name: student.logits.new_zeros(()) for name in DECODER_TERMS}
    for layer in range(depth):
        target = layer if paired else -1
        terms = query_losses(
            only_known(student.logits[layer], teacher.known),
            student.boxes[layer],
            only_known(teacher.logits[target].detach(), teacher.known),
            teacher.boxes[target].detach(),
            weights,
            class_loss,
        )
        for name, factor in factors.items():
            total[name] = total[name] + factor * terms[name]
        if settings.corner_weight > 0 and student.corners is not None:
            assert teacher.corners is not None  # noqa: S101 - `check_pair` holds it
            corners = corner_loss(student.corners[layer], teacher.corners[target].detach(), weights)
            total["corners"] = total["corners"] + settings.corner_weight * corners
    return total


def query_weights(teacher_logits: Tensor, counts: Tensor, settings: DecoderLossSettings) -> Tensor:
    """Return the weight of each query (...), from the teacher's last logits (..., K)."""
    weights = counts.to(teacher_logits.dtype)
    if settings.query_weight == "teacher_score":
        weights = weights * teacher_logits.sigmoid().amax(-1)
    return weights


def _bins(model: Model) -> tuple[float, ...] | None:
    """Return what defines the bins of a model's edges: how many, and where they lie."""
    config = getattr(model.network, "config", None)
    if not hasattr(config, "max_num_bins"):
        return None
    return (config.max_num_bins, config.up, config.reg_scale)  # type: ignore[union-attr]


def _named(bins: tuple[float, ...] | None) -> str:
    return "none" if bins is None else "{} bins (up {}, reg_scale {})".format(*bins)
