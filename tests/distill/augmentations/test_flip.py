import numpy as np
import torch

from edgedetr.distill.augmentations import flip


def test_half_of_the_pictures_are_mirrored_with_all_that_lies_in_them(make_frame, material):
    frame = make_frame(0)
    mirrored = 0
    for seed in range(100):
        picture = flip.apply(frame, np.random.default_rng(seed), material)
        if picture is frame:
            continue
        mirrored += 1
        assert torch.equal(picture.pixels, frame.pixels.flip(-1))
        for before, after in (
            (frame.targets.boxes, picture.targets.boxes),
            (frame.targets.ignored, picture.targets.ignored),
        ):
            torch.testing.assert_close(after[:, 0], 1 - before[:, 0])
            assert torch.equal(after[:, 1:], before[:, 1:])
    assert 30 < mirrored < 70
