import torch

from edgedetr.distill.imported import conditional_detr
from edgedetr.distill.weights.importing import read_model


def test_it_has_a_sigmoid_a_class_and_none_for_no_object(foreign):
    model = read_model(foreign("conditional_detr"))
    with torch.no_grad():
        logits, _ = conditional_detr.predict(model.network, torch.rand(1, 3, 64, 96))
    assert logits.shape == (1, 12, 5)
