from dataclasses import replace

import pytest
import torch

from edgedetr.distill.losses.foreground_mask import cell_weights, standardised
from edgedetr.distill.types import Targets


def test_a_box_has_a_mass_of_one_and_so_has_the_background(make_targets):
    # x 0.25..0.5 and y 0.125..0.375 of an 8 x 8 grid: cells 2..4 and 1..3, both ends included
    target = make_targets((0.375, 0.25, 0.25, 0.25))
    foreground, background = cell_weights([target], torch.ones(1, 8, 8, dtype=torch.bool))
    assert foreground.sum().item() == pytest.approx(1)
    torch.testing.assert_close(foreground[0, 1:4, 2:5], torch.full((3, 3), 1 / 9))
    assert background.sum().item() == pytest.approx(1)
    assert (foreground[0] > 0).sum() == 9
    assert not ((foreground > 0) & (background > 0)).any()


def test_the_smallest_box_wins_where_two_overlap(make_targets):
    target = make_targets((0.5, 0.5, 0.7, 0.7), (0.5, 0.5, 0.1, 0.1))
    foreground, _ = cell_weights([target], torch.ones(1, 10, 10, dtype=torch.bool))
    assert foreground[0, 5, 5].item() == pytest.approx(1 / 9, rel=1e-3)  # 4..6 in both directions
    assert foreground[0, 2, 2].item() == pytest.approx(1 / 81)  # 1..9


def test_ignored_and_padded_cells_weigh_nothing(make_targets):
    target = make_targets((0.2, 0.2, 0.1, 0.1), ignored=[(0.8, 0.5, 0.19, 0.5)])
    mask = torch.ones(1, 10, 10, dtype=torch.bool)
    mask[:, 8:] = False
    foreground, background = cell_weights([target], mask)
    assert background[0, 8:].sum() == foreground[0, 8:].sum() == 0
    assert background[0, 3:7, 8].sum() == 0
    assert background.sum().item() == pytest.approx(1)


def test_padding_of_a_letterbox_is_no_background(make_targets):
    """The picture takes the upper half and the left three quarters of a 4 x 8 grid: 2 x 6 cells."""
    plain = make_targets((0.1, 0.1, 0.05, 0.05))
    boxed = replace(plain, picture=torch.tensor([[0.375, 0.25, 0.75, 0.5]]))
    _, background = cell_weights([boxed, plain], torch.ones(2, 4, 8, dtype=torch.bool))
    assert (background[0] > 0).sum() == 12 - 4  # the box takes two by two cells
    assert (background[1] > 0).sum() == 32 - 4
    assert background[0, 2:].sum() == background[0, :, 6:].sum() == 0


def test_the_weights_equal_a_loop_over_boxes_and_cells():
    """The vectorised form against FGD's rule, written out."""
    generator = torch.Generator().manual_seed(0)
    height, width = 7, 11
    for _ in range(50):
        centre, size = (torch.rand(4, 2, generator=generator) for _ in range(2))
        boxes = torch.cat([centre * 0.6 + 0.2, size * 0.3 + 0.02], 1)
        target = Targets(torch.zeros(4, dtype=torch.long), boxes, torch.zeros(0, 4))
        expect = torch.zeros(height, width)
        for cx, cy, w, h in boxes:
            x1, x2 = ((cx - w / 2) * width).floor().int(), ((cx + w / 2) * width).ceil().int()
            y1, y2 = ((cy - h / 2) * height).floor().int(), ((cy + h / 2) * height).ceil().int()
            mass = 1 / ((x2 - x1 + 1) * (y2 - y1 + 1))
            for y in range(max(0, y1), min(height - 1, y2) + 1):
                for x in range(max(0, x1), min(width - 1, x2) + 1):
                    expect[y, x] = max(expect[y, x], mass)
        foreground, background = cell_weights([target], torch.ones(1, height, width).bool())
        torch.testing.assert_close(foreground[0], expect)
        empty = expect == 0
        torch.testing.assert_close(background[0], empty / empty.sum().clamp(min=1))


def test_standardising_leaves_padding_out():
    level = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 7 + 3
    mask = torch.ones(2, 1, 4, 5, dtype=torch.bool)
    mask[:, :, 3:] = False
    level[:, :, 3:] = 1e6
    normal = standardised(level, mask)[:, :, :3]
    assert normal.mean((2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(
        normal.var((2, 3), unbiased=False), torch.ones(2, 3), rtol=1e-3, atol=0
    )
