import numpy as np
import torch

from edgedetr.distill.data import Sample, Truth
from edgedetr.distill.evaluation.predict import detections_on
from edgedetr.distill.training.network_inputs import NetworkInputs
from edgedetr.runtime.types import Frame

NOTHING = Truth(
    np.zeros((0, 4), np.float32),
    np.zeros(0, np.int64),
    np.zeros(0, np.float32),
    np.zeros(0, np.int64),
    np.zeros((0, 4), np.float32),
)


class Noise:
    """Three frames of noise."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        image = np.random.default_rng(index).integers(0, 256, (64, 96, 3), np.uint8)
        return Sample(Frame(image, index, str(index)), NOTHING)


def test_a_model_asked_for_its_classes_in_another_order_answers_in_that_order(make_model):
    model = make_model()
    own = detections_on(model, NetworkInputs(Noise(), model.spec), 2)  # type: ignore[arg-type]
    turned = model.with_classes(model.spec.class_names[::-1])
    other = detections_on(turned, NetworkInputs(Noise(), model.spec), 2)  # type: ignore[arg-type]
    for a, b in zip(own, other, strict=True):
        assert len(a.labels)
        pairs = [
            sorted(zip(d.scores.tolist(), labels.tolist(), d.boxes.tolist(), strict=True))
            for d, labels in ((a, a.labels), (b, 2 - b.labels))
        ]
        assert pairs[0] == pairs[1]


def test_the_mode_of_the_network_is_kept(make_model):
    model = make_model()
    model.network.train()
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    detections_on(model, NetworkInputs(Noise(), model.spec), 2)  # type: ignore[arg-type]
    assert model.network.training
    for key, value in model.network.state_dict().items():
        assert torch.equal(value, before[key]), key
