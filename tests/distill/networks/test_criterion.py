import pytest
import torch

from edgedetr.distill.networks.criterion import share_inside, silence_ignored, terms_from_names
from edgedetr.distill.types import LossTerm, Targets


def test_share_inside_of_hand_worked_boxes():
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.1, 0.1, 0.2, 0.2], [0.9, 0.9, 0.1, 0.1]])
    areas = torch.tensor([[0.6, 0.5, 0.2, 0.4], [0.0, 0.0, 0.2, 0.2]])
    # box 0 lies half in area 0; box 1 (0..0.2) shares 0.1 x 0.1 of 0.2 x 0.2 with area 1
    torch.testing.assert_close(share_inside(boxes, areas), torch.tensor([0.5, 0.25, 0.0]))


def test_only_unmatched_predictions_inside_an_area_fall_silent():
    logits = torch.zeros(1, 3, 2, requires_grad=True)
    boxes = torch.tensor([[[0.5, 0.5, 0.1, 0.1], [0.5, 0.5, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1]]])
    target = {"ignored": torch.tensor([[0.5, 0.5, 0.3, 0.3]])}
    matched = [(torch.tensor([1]), torch.tensor([0]))]
    out = silence_ignored({"logits": logits, "pred_boxes": boxes}, [target], matched)
    assert (out["logits"][0, :, 0] < -10).tolist() == [True, False, False]
    out["logits"].sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, :, 0].tolist() == [0, 1, 1]


@pytest.mark.parametrize("family", ["d_fine", "deimv2", "rt_detr_v2"])
def test_an_area_over_the_whole_image_leaves_no_background(family, make_model, images):
    model = make_model(family)
    none = torch.zeros(0, 4)
    labels = torch.zeros(0, dtype=torch.long)
    whole = torch.tensor([[0.5, 0.5, 1.0, 1.0]])

    def class_loss(ignored):
        losses, _ = model.training_pass(images, [Targets(labels, none, ignored)] * 2)
        return sum(v.item() for k, v in losses.items() if k.name in {"loss_vfl", "loss_mal"})

    assert class_loss(none) > 0.1
    assert class_loss(whole) == 0


def test_terms_of_transformers_names():
    """Two inner layers: the third auxiliary output is the encoder's."""
    names = ("loss_mal", "loss_mal_aux_0", "loss_mal_aux_2", "loss_giou_dn_1")
    losses = {name: torch.tensor(float(i)) for i, name in enumerate(names)}
    assert terms_from_names(losses, 2) == {
        LossTerm("loss_mal"): 0,
        LossTerm("loss_mal", 0): 1,
        LossTerm("loss_mal", None, "encoder"): 2,
        LossTerm("loss_giou", 1, "denoising"): 3,
    }
