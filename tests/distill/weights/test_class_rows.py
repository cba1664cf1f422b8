from dataclasses import replace

import pytest
import torch

from edgedetr.distill.model import new_model
from edgedetr.distill.weights.class_rows import by_class, rows_by_name
from edgedetr.distill.weights.inheritance import inherit

FAMILIES = ("d_fine", "dino", "deformable_detr", "dab_detr", "fcos", "retinanet", "faster_rcnn")


def test_rows_are_found_by_name_and_several_names_are_the_first(make_model):
    student, teacher = make_model(), make_model(seed=1)
    turned = replace(student, spec=replace(student.spec, class_names=("Van", "Cyclist", "Car")))
    assert rows_by_name(turned, teacher) == (None, 2, 0)
    mapped = teacher.with_classes((("Pedestrian", "Car"), (), "Cyclist"))
    assert rows_by_name(student, mapped) == (1, None, 2)


def test_a_head_is_sorted_by_class_where_the_background_or_the_anchors_lie_between(make_model):
    faster = make_model("faster_rcnn").network
    boxes, background = by_class(faster, "roi_heads.box_predictor.bbox_pred.weight", 3, 4)
    weight = faster.roi_heads.box_predictor.bbox_pred.weight
    assert torch.equal(background, weight[:4])
    assert torch.equal(boxes[2], weight[12:])
    retina = make_model("retinanet").network
    name = "head.classification_head.cls_logits.bias"
    rows, rest = by_class(retina, name, 3, 9)
    assert len(rest) == 0
    assert torch.equal(rows[1], retina.state_dict()[name][1::3])


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_start_with_other_class_order_detects_the_same(family, make_model, images):
    """Every class keeps its logits, which move to its new place; a new class starts fresh."""
    teacher = make_model(family)
    names = ("Cyclist", "Van", "Car", "Pedestrian")
    student = new_model(family, "edge-tiny", replace(teacher.spec, class_names=names))
    inherit(student, teacher)
    student.network.eval()
    # the fresh class is silenced, so that no choice of queries or boxes depends on it
    for name, tensor in student.network.state_dict().items():
        if name.endswith("cls_score.bias"):  # the background comes first
            tensor[2] = -30
        elif name.endswith("bias") and not name.startswith("rpn."):
            heads = ("class_embed", "enc_score_head", "cls_logits")
            rows = tensor.view(-1, 4)[:, 1] if any(h in name for h in heads) else tensor[:0]
            rows.fill_(-30)
    wanted, _ = teacher.predict(images)
    found, _ = student.predict(images)
    torch.testing.assert_close(found[..., [2, 3, 0]], wanted, atol=1e-3, rtol=1e-3)
