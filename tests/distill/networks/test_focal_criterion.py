import math

import pytest
import torch

from edgedetr.distill.networks.focal_criterion import FocalWeights, focal_losses
from edgedetr.distill.types import Targets

HIT, MISS = (0.3, 0.4, 0.2, 0.2), (0.8, 0.8, 0.1, 0.1)
PLAIN = FocalWeights()
HARD = math.log(2) / 4  # focal loss of a logit of 0, before alpha


def target(*boxes, ignored=()):
    return Targets(
        torch.zeros(len(boxes), dtype=torch.long),
        torch.tensor(boxes).reshape(-1, 4),
        torch.tensor(ignored).reshape(-1, 4),
    )


def losses(boxes, targets, weights=PLAIN, **kwargs):
    """Losses of undecided logits, by the names of a log."""
    boxes = torch.tensor(boxes)
    logits = torch.zeros(*boxes.shape[:3], 1)
    found = focal_losses(weights, logits, boxes, targets, **kwargs)
    return {term.log_name: value for term, value in found.items()}


def test_one_hit_and_one_miss_by_hand():
    terms = losses([[[MISS, HIT]]], [target((0.4, 0.4, 0.2, 0.2))])
    assert terms.keys() == {"loss_ce", "loss_bbox", "loss_giou"}
    assert terms["loss_ce"].item() == pytest.approx(0.25 * HARD + 0.75 * HARD)
    assert terms["loss_bbox"].item() == pytest.approx(5 * 0.1)
    # the boxes share half of each, and their hull holds nothing else: 1 - 0.02 / 0.06
    assert terms["loss_giou"].item() == pytest.approx(2 * (1 - 1 / 3), rel=1e-5)


def test_factors_weigh_the_terms():
    plain = losses([[[MISS, HIT]]], [target((0.4, 0.4, 0.2, 0.2))])
    other = losses([[[MISS, HIT]]], [target((0.4, 0.4, 0.2, 0.2))], FocalWeights(2.0, 10.0, 1.0))
    for name, factor in {"loss_ce": 2, "loss_bbox": 2, "loss_giou": 0.5}.items():
        assert other[name].item() == pytest.approx(factor * plain[name].item())


def test_a_miss_in_an_ignored_area_is_no_background():
    terms = losses([[[MISS, HIT]]], [target(HIT, ignored=[(0.8, 0.8, 0.2, 0.2)])])
    assert terms["loss_ce"].item() == pytest.approx(0.25 * HARD)


def test_a_hit_in_an_ignored_area_is_still_an_object():
    terms = losses([[[MISS, HIT]]], [target(HIT, ignored=[(0.3, 0.4, 0.5, 0.5)])])
    assert terms["loss_ce"].item() == pytest.approx(0.25 * HARD + 0.75 * HARD)


def test_each_layer_is_matched_by_itself():
    """The object is hit by another query in each layer, and hit exactly."""
    terms = losses([[[HIT, MISS]], [[MISS, HIT]]], [target(HIT)], part="encoder")
    assert set(terms) == {
        f"loss_{kind}{layer}_encoder" for kind in ("ce", "bbox", "giou") for layer in ("", "_0")
    }
    assert terms["loss_bbox_0_encoder"].item() == terms["loss_bbox_encoder"].item() == 0


def test_known_matches_are_kept_however_bad_they_are():
    nobody = torch.zeros(0, dtype=torch.long)
    matches = [(torch.tensor([0]), torch.tensor([0])), (nobody, nobody)]
    terms = losses([[[MISS, HIT], [MISS, HIT]]], [target(HIT), target()], matches=matches)
    assert terms["loss_bbox"].item() == pytest.approx(5 * (0.5 + 0.4 + 0.1 + 0.1))


def test_crowds_and_empty_images_give_finite_gradients():
    logits, boxes = torch.zeros(1, 2, 2, 1), torch.tensor([[[HIT, MISS], [HIT, MISS]]])
    logits.requires_grad_()
    boxes.requires_grad_()
    terms = focal_losses(FocalWeights(), logits, boxes, [target(*[HIT] * 5), target()])
    torch.stack(list(terms.values())).sum().backward()
    assert logits.grad.isfinite().all()  # type: ignore[union-attr]
    assert boxes.grad.isfinite().all()  # type: ignore[union-attr]
    empty = losses([[[MISS, HIT]]], [target()])
    assert empty["loss_ce"].item() == pytest.approx(2 * 0.75 * HARD)
    assert empty["loss_bbox"].item() == empty["loss_giou"].item() == 0
