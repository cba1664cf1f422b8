import numpy as np
import torch

from edgedetr.distill.augmentations import zoom


def test_a_zoom_keeps_the_shape_of_objects_and_enlarges_them_by_up_to_five_thirds(
    make_frame, material
):
    """A side of at least 0.6 of the picture's; uncut objects, to a pixel of rounding."""
    frame, found = make_frame(0), []
    for seed in range(60):
        targets = zoom.apply(frame, np.random.default_rng(seed), material).targets
        for label, box in zip(targets.labels.tolist(), targets.boxes, strict=True):
            inside = (box[:2] - box[2:] / 2 > 0).all() and (box[:2] + box[2:] / 2 < 1).all()
            if inside:
                found.append(box[2:] / frame.targets.boxes[label, 2:])
    factors = torch.stack(found)
    assert (factors[:, 0] - factors[:, 1]).abs().max() < 0.05
    assert factors.min() >= 0.999
    assert factors.max() <= 1 / 0.6 + 0.03
    assert factors.max() > 1.3
