import numpy as np
import torch

from edgedetr.distill.augmentations import scale_jitter


def test_what_shrinks_is_padded_with_grey_and_says_where_it_lies(make_frame, material):
    """The first object of 26 of 160 columns becomes as much narrower as the picture does."""
    frame, shares = make_frame(0), []
    for seed in range(60):
        picture = scale_jitter.apply(frame, np.random.default_rng(seed), material)
        area = picture.targets.picture
        if area is None:
            continue
        shares.append(area[0, 2].item())
        own = picture.targets.boxes[picture.targets.labels == 0]
        torch.testing.assert_close(own[0, 2] / frame.targets.boxes[0, 2], area[0, 2])
        corner = picture.pixels[:, 0, 0]
        if (area[0, :2] - area[0, 2:] / 2).min() > 0.02:
            assert corner.tolist() == [114, 114, 114]
    assert 15 < len(shares) < 45
    assert 0.5 <= min(shares) < 0.7
    assert max(shares) < 1
