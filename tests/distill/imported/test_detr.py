import torch

from edgedetr.distill.imported import detr
from edgedetr.distill.weights.importing import read_model


def test_the_sigmoid_of_a_logit_is_the_softmax_score(foreign):
    model = read_model(foreign("detr"))
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        raw = model.network(pixel_values=images).logits
        logits, _ = detr.predict(model.network, images)
    assert raw.shape[-1] == logits.shape[-1] + 1
    torch.testing.assert_close(logits.sigmoid(), raw.softmax(-1)[..., :-1])
