from functools import partial

import numpy as np

from edgedetr.distill.augmentations import Material, mosaic


def drawn(make_frame, numbers, _):
    return make_frame(next(numbers))


def test_four_frames_meet_in_a_point(make_frame):
    """Each frame's objects are left or right, above or below of it, and no padding is seen."""
    frame = make_frame(0)
    for seed in range(30):
        numbers = iter((1, 2, 3))
        material = Material(partial(drawn, make_frame, numbers), pad_value=114)
        picture = mosaic.apply(frame, np.random.default_rng(seed), material)
        if picture is frame:
            continue
        assert picture.targets.frame_id == "frame 0 with frame 1 with frame 2 with frame 3"
        assert picture.targets.picture is None
        centres = {
            number: [
                box[:2].tolist()
                for label, box in zip(picture.targets.labels, picture.targets.boxes, strict=True)
                if label // 3 == number
            ]
            for number in range(4)
        }
        for left, right in ((0, 1), (2, 3)):
            for a in centres[left]:
                assert all(a[0] < b[0] for b in centres[right])
        for above, below in ((0, 2), (1, 3)):
            for a in centres[above]:
                assert all(a[1] < b[1] for b in centres[below])
        assert not (picture.pixels == 114).all(0).any()
