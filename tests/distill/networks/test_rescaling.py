from dataclasses import replace

import torch

from edgedetr.distill.networks.rescaling import Rescaling
from edgedetr.runtime.spec import ModelSpec

PLAIN = ModelSpec((32, 32), ("Car",))
OTHER = replace(PLAIN, mean=(0.2, 0.4, 0.5), std=(0.5, 0.25, 0.1))


def test_images_are_normalised_anew():
    """Of 0.6: (.6 - .2) / .5 = .8, (.6 - .4) / .25 = .8 and (.6 - .5) / .1 = 1."""
    images = torch.full((1, 3, 1, 1), 0.6)
    wanted = torch.tensor([0.8, 0.8, 1.0])
    found = Rescaling(PLAIN, OTHER)(images)
    torch.testing.assert_close(found.flatten(), wanted)
    torch.testing.assert_close(Rescaling(OTHER, PLAIN)(found), images)
    pixels = torch.full((1, 3, 1, 1), 153, dtype=torch.uint8)  # 0.6 of 255
    torch.testing.assert_close(Rescaling(PLAIN, OTHER)(pixels).flatten(), wanted)


def test_what_is_as_wanted_stays_as_it_is():
    images = torch.rand(1, 3, 2, 2)
    assert Rescaling(OTHER, replace(OTHER, input_hw=(64, 64)))(images) is images
