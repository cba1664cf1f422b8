import numpy as np
import torch

from edgedetr.distill.augmentations import light


def test_colours_change_and_the_truth_does_not(make_frame, material):
    frame, changed = make_frame(0), 0
    for seed in range(20):
        picture = light.apply(frame, np.random.default_rng(seed), material)
        assert picture.targets is frame.targets
        changed += not torch.equal(picture.pixels, frame.pixels)
    assert changed > 10
