import pytest
import torch
from transformers.loss.loss_d_fine import DFineLoss
from transformers.loss.loss_rt_detr import RTDetrLoss

from edgedetr.distill.networks.criterion import (
    real_time_detr_loss,
    silence_ignored,
    terms_from_names,
)
from edgedetr.distill.types import Targets

NONE = torch.zeros(0, 4)


class OneByOne:
    """transformers' own criterion, layer after layer, with the ignored areas left out."""

    def __init__(self, config):
        self.criterion = (DFineLoss if config.model_type == "d_fine" else RTDetrLoss)(config)
        class_loss = self.criterion.loss_labels_vfl
        self.criterion.loss_labels_vfl = lambda outputs, targets, indices, *rest: class_loss(
            silence_ignored(outputs, targets, indices), targets, indices, *rest
        )

    def __call__(self, *given, **more):
        _, labels, _, _, _, classes, boxes = given
        meta, corners = more["denoising_meta_values"], more.get("predicted_corners")
        references = more.get("initial_reference_points")
        parts = [self.layers(classes, boxes, corners, references)]
        if meta is not None:
            tensors = (classes, boxes, corners, references)
            split = [
                (None, None) if t is None else t.split(meta["dn_num_split"], 2) for t in tensors
            ]
            parts = [self.layers(*(s[side] for s in split)) for side in (1, 0)]
        *inner, last = parts[0]
        encoder = {"logits": more["enc_topk_logits"], "pred_boxes": more["enc_topk_bboxes"]}
        outputs = {**last, "auxiliary_outputs": [*inner, encoder]}
        if meta is not None:
            outputs |= {"dn_auxiliary_outputs": parts[1], "denoising_meta_values": meta}
        terms = self.criterion(outputs, labels)
        return torch.stack(list(terms.values())).sum(), terms_from_names(terms, len(inner)), None

    @staticmethod
    def layers(classes, boxes, corners, references):
        layers = [
            {"logits": z, "pred_boxes": b.clamp(0, 1)}
            for z, b in zip(classes.unbind(1), boxes.unbind(1), strict=True)
        ]
        if corners is not None:
            last = {"teacher_corners": corners[:, -1], "teacher_logits": classes[:, -1]}
            pairs = zip(corners.unbind(1), references.unbind(1), strict=True)
            for layer, (c, r) in zip(layers[-corners.shape[1] :], pairs, strict=True):
                layer |= {"pred_corners": c, "ref_points": r, **last}
        return layers


def some_targets():
    return [
        Targets(
            torch.tensor([0, 2, 1]),
            torch.tensor([[0.3, 0.4, 0.2, 0.3], [0.7, 0.6, 0.1, 0.2], [0.5, 0.5, 0.9, 0.8]]),
            torch.tensor([[0.5, 0.5, 0.6, 0.6]]),
        ),
        Targets(torch.tensor([1]), torch.tensor([[0.2, 0.2, 0.1, 0.1]]), NONE),
    ]


EMPTY = Targets(torch.zeros(0, dtype=torch.long), NONE, NONE)


@pytest.mark.parametrize("family", ["d_fine", "rt_detr_v2"])
@pytest.mark.parametrize("case", ["both", "one", "none"])
def test_all_layers_at_once_give_what_transformers_gives_one_by_one(
    family, case, make_model, images
):
    """Losses by name and all gradients, denoising queries included."""
    model = make_model(family)
    model.network.train()
    truth = {"both": some_targets(), "one": [EMPTY, some_targets()[0]], "none": [EMPTY] * 2}[case]
    found = []
    for loss in (real_time_detr_loss, OneByOne(model.network.config)):
        model.network.loss_function = loss
        torch.manual_seed(2)
        model.network.zero_grad()
        losses, _ = model.training_pass(images, truth)
        torch.stack(list(losses.values())).sum().backward()
        gradients = {n: p.grad for n, p in model.network.named_parameters() if p.grad is not None}
        found.append((losses, gradients))
    (losses, gradients), (wanted, wanted_gradients) = found
    torch.testing.assert_close(losses, wanted, rtol=1e-4, atol=1e-5)
    assert gradients.keys() == wanted_gradients.keys()
    flat, wanted_flat = (
        torch.cat([g.flatten() for g in parts.values()]) for parts in (gradients, wanted_gradients)
    )
    assert (flat - wanted_flat).norm() < 1e-4 * wanted_flat.norm()
