import numpy as np
import torch

from edgedetr.distill.augmentations import mixup


def test_the_objects_of_both_frames_count_and_both_are_seen(make_frame, material):
    frame = make_frame(0)
    tried = (mixup.apply(frame, np.random.default_rng(seed), material) for seed in range(40))
    mixed = next(picture for picture in tried if picture is not frame)
    other = make_frame(1)
    assert mixed.targets.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal(mixed.targets.boxes, torch.cat([frame.targets.boxes, other.targets.boxes]))
    assert torch.equal(
        mixed.targets.ignored, torch.cat([frame.targets.ignored, other.targets.ignored])
    )
    own, theirs = (f.pixels.double() for f in (frame, other))
    only_own = (theirs == 0).all(0) & (own > 0).any(0)
    share = (mixed.pixels.double()[:, only_own].sum() / own[:, only_own].sum()).item()
    assert 0.44 < share < 0.56
    expect = share * own + (1 - share) * theirs
    assert (mixed.pixels.double() - expect).abs().max() < 2


def test_a_quarter_of_the_pictures_is_mixed(make_frame, material):
    frame = make_frame(0)
    mixed = [
        mixup.apply(frame, np.random.default_rng(s), material) is not frame for s in range(400)
    ]
    assert 70 < sum(mixed) < 130
